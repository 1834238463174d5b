# SPDX-License-Identifier: Apache-2.0
# bash completion for fwd(1)

# Names of network namespaces, as fwd looks them up.
_fwd_netns() {
  local dir
  for dir in /run/netns "${XDG_RUNTIME_DIR:-/nonexistent}/netns"; do
    [[ -d $dir ]] && command ls -1 "$dir" 2>/dev/null
  done
}

# The word at which options end, and a command or a PID begins; or the current one.
_fwd_first_operand() {
  local i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
    --) echo $((i + 1)) && return ;;
    = | -t | -u | -c | -P | -l | --control | --listen-fd | --tcp-ports | --udp-ports | --pid | --log-file | --log-size | --netns | --source | --sandbox | \
      --engine | --threads | --max-flows | --connect-timeout | --half-closed-timeout | \
      --udp-timeout | --ready-fd | --exit-fd)
      # Readline makes a word of '=', too.
      [[ ${COMP_WORDS[i + 1]-} == = ]] || ((++i))
      ;;
    -*) ;;
    *) echo "$i" && return ;;
    esac
  done
  echo "$COMP_CWORD"
}

_fwd() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} first
  COMPREPLY=()
  first=$(_fwd_first_operand)

  if ((first == 1 && COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} == install-podman ]]; then
    mapfile -t COMPREPLY < <(compgen -W '--hook --undo --dry-run -h --help' -- "$cur")
    return
  fi
  if ((first == 1 && COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} == hook ]]; then
    mapfile -t COMPREPLY < <(compgen -W 'createRuntime poststart poststop -h --help' -- "$cur")
    return
  fi
  if ((first == 1 && COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} == ctl ]]; then
    case $COMP_CWORD in
    2) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    3) mapfile -t COMPREPLY < <(compgen -W 'list add delete stats flows' -- "$cur") ;;
    *) mapfile -t COMPREPLY < <(compgen -W '-t --tcp-ports -u --udp-ports --drop --json
        --format=prometheus -h --help' -- "$cur") ;;
    esac
    return
  fi
  if ((first < COMP_CWORD)); then
    # Within a command: complete as it would.
    if declare -F _command_offset >/dev/null; then
      _command_offset "$first"
    else
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
    return
  fi

  # "--option=value" comes as three words.
  if [[ $cur == = ]]; then
    cur=''
  elif [[ $prev == = ]]; then
    prev=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  case $prev in
  -t | --tcp-ports | -u | --udp-ports) mapfile -t COMPREPLY < <(compgen -W 'all auto none' -- "$cur") ;;
  --sandbox) mapfile -t COMPREPLY < <(compgen -W 'strict off' -- "$cur") ;;
  --source) mapfile -t COMPREPLY < <(compgen -W 'keep require off' -- "$cur") ;;
  --engine) mapfile -t COMPREPLY < <(compgen -W 'io_uring epoll' -- "$cur") ;;
  --netns) mapfile -t COMPREPLY < <(compgen -W "$(_fwd_netns)" -- "$cur"; compgen -f -- "$cur") ;;
  -c | --control | -P | --pid | -l | --log-file) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
  --log-size | --threads | --max-flows | --connect-timeout | --half-closed-timeout | \
    --udp-timeout | --listen-fd | --ready-fd | --exit-fd) ;;
  *)
    if [[ $cur == -* ]]; then
      mapfile -t COMPREPLY < <(compgen -W '-t --tcp-ports -u --udp-ports --netns -c --control --listen-fd -4 --ipv4-only -6 --ipv6-only
        --freebind --host-lo-to-ns-lo --source --sandbox --engine --threads --max-flows --connect-timeout
        --half-closed-timeout --udp-timeout -f --foreground --ready-fd --exit-fd -P --pid -l --log-file --log-size -q --quiet
        -d --debug --version -h --help' -- "$cur")
    else
      mapfile -t COMPREPLY < <(compgen -W 'ctl hook install-podman' -- "$cur"; compgen -c -- "$cur")
    fi
    ;;
  esac
}

complete -F _fwd fwd
