# SPDX-License-Identifier: Apache-2.0
# fish completion for fwd(1)

function __fwd_netns
    for dir in /run/netns $XDG_RUNTIME_DIR/netns
        test -d $dir; and command ls -1 $dir 2>/dev/null
    end
end

complete -c fwd -f
complete -c fwd -n __fish_use_subcommand -a '(__fish_complete_subcommand)'
complete -c fwd -n __fish_use_subcommand -a install-podman -d 'Put fwd in place of rootlessport'
complete -c fwd -n '__fish_seen_subcommand_from install-podman' -l hook -d 'As a hook'
complete -c fwd -n '__fish_seen_subcommand_from install-podman' -l undo -d 'Take it back'
complete -c fwd -n '__fish_seen_subcommand_from install-podman' -l dry-run -d 'Only print what would be done'
complete -c fwd -n __fish_use_subcommand -a hook -d 'Publish ports for an OCI runtime'
complete -c fwd -n '__fish_seen_subcommand_from hook' -a 'createRuntime poststart poststop'
complete -c fwd -n __fish_use_subcommand -a ctl -d 'Change and show what a running fwd forwards'
complete -c fwd -n '__fish_seen_subcommand_from ctl' -a 'list add delete stats flows'
complete -c fwd -n '__fish_seen_subcommand_from ctl' -l drop -d 'End connections, too'
complete -c fwd -n '__fish_seen_subcommand_from ctl' -l json -d 'Print JSON'
complete -c fwd -n '__fish_seen_subcommand_from ctl' -l format -x -a prometheus -d 'Format of counters'
complete -c fwd -s c -l control -r -F -d 'Let rules be changed by this socket'
complete -c fwd -l listen-fd -x -d 'Where a passed socket leads, NAME=TARGET'
complete -c fwd -s t -l tcp-ports -x -a 'all auto none' -d 'TCP ports to forward'
complete -c fwd -s u -l udp-ports -x -a 'all auto none' -d 'UDP ports to forward'
complete -c fwd -l netns -r -a '(__fwd_netns)' -d 'The network namespace'
complete -c fwd -s 4 -l ipv4-only -d 'Listen on IPv4 addresses only'
complete -c fwd -s 6 -l ipv6-only -d 'Listen on IPv6 addresses only'
complete -c fwd -l freebind -d 'Listen on addresses that the host does not have'
complete -c fwd -l host-lo-to-ns-lo -d 'Let clients on loopback appear on loopback'
complete -c fwd -l sandbox -x -a 'strict off' -d 'What to give up after the start'
complete -c fwd -l source -x -a 'keep require off' -d 'What to do about the client address'
complete -c fwd -l engine -x -a 'io_uring epoll' -d 'How to wait for events'
complete -c fwd -l threads -x -d 'Worker threads'
complete -c fwd -l max-flows -x -d 'Connections at a time'
complete -c fwd -l connect-timeout -x -d 'Seconds for the application to answer'
complete -c fwd -l half-closed-timeout -x -d 'Seconds without a byte, half-closed'
complete -c fwd -l udp-timeout -x -d 'Seconds without a datagram, of UDP sessions'
complete -c fwd -s f -l foreground -d 'Stay in the foreground'
complete -c fwd -l ready-fd -x -d 'Descriptor to say ready on'
complete -c fwd -l exit-fd -x -d 'Descriptor at whose end of file to end'
complete -c fwd -s P -l pid -r -F -d 'Write the process id to a file'
complete -c fwd -s l -l log-file -r -F -d 'Log to a file'
complete -c fwd -l log-size -x -d 'Size of the log file in bytes'
complete -c fwd -s q -l quiet -d 'Log errors and warnings only'
complete -c fwd -s d -l debug -d 'Log each connection'
complete -c fwd -l version -d 'Print the version'
complete -c fwd -s h -l help -d 'Print a summary'
