/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rootlessport.c - as Podman's port forwarder for rootless containers
 *
 * Podman starts us in its own user and mount namespaces and in the host's network
 * namespace, with a container's network namespace that is ready. It then waits for
 * "1" on ReadyFD; shows what we have written to standard output if we end instead;
 * and goes away. The other end of ExitFD is with conmon, which lives as long as the
 * container. So we stay the process that was started, in the foreground, and let go
 * of standard output and error, whose readers go away.
 *
 * ChildIP is the address that Podman has given to the container, in one of its
 * networks. Podman's own forwarder leads every connection there. Here it is what is
 * preferred among the addresses that the container really has: it says more than
 * their order does, where the container makes addresses itself; but the other
 * address family, and networks that come and go, we see for ourselves.
 *
 * A mapping is written as a port specification and parsed as one.
 */
#include "fwd/rootlessport.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "fwd/portspec.h"

#define ROOTLESSPORT_NAME "rootlessport"

bool rootlessport_is_called(const char *argv0)
{
	const char *slash = argv0 ? strrchr(argv0, '/') : NULL;

	return argv0 && strcmp(slash ? slash + 1 : argv0, ROOTLESSPORT_NAME) == 0;
}

/* What Podman says of one range of ports. */
struct mapping {
	const char *host_ip;	    /* "": all addresses */
	const char *protocols;	    /* separated by commas */
	json_int_t host, container; /* first port of each */
	json_int_t range;	    /* how many */
};

static int mapping_read(json_t *json, struct mapping *m, struct err *err)
{
	json_error_t why;

	*m = (struct mapping){ .host_ip = "", .protocols = "tcp", .range = 1 };
	if (json_unpack_ex(json, &why, 0, "{s?s, s?s, s:I, s:I, s?I}", "host_ip", &m->host_ip,
			   "protocol", &m->protocols, "host_port", &m->host, "container_port",
			   &m->container, "range", &m->range) != 0)
		return err_set(err, EINVAL, "a mapping of Podman's: %s", why.text);
	if (!*m->protocols)
		m->protocols = "tcp";
	if (m->range == 0)
		m->range = 1;
	if (m->host < 1 || m->container < 1 || m->range < 1 || m->host > 65535 ||
	    m->container > 65535 || m->range > 65535 || m->host + m->range > 65536 ||
	    m->container + m->range > 65536)
		return err_set(err, EINVAL,
			       "a mapping of Podman's, %lld to %lld, %lld ports: not from 1 to "
			       "65535",
			       (long long)m->host, (long long)m->container, (long long)m->range);
	return 0;
}

/* One protocol, the @len bytes at @name, of a mapping. */
static int mapping_add(const struct mapping *m, const char *name, size_t len, struct rules *rules,
		       struct err *err)
{
	static const struct portspec_env env = { .v4 = true, .v6 = true };
	enum proto proto = PROTO_TCP;
	struct addr addr;
	char spec[256];

	while (proto < PROTO_NUM &&
	       (strlen(proto_str(proto)) != len || strncmp(proto_str(proto), name, len) != 0))
		proto++;
	if (proto == PROTO_NUM)
		return err_set(err, EPROTONOSUPPORT,
			       "port %lld/%.*s: only tcp and udp are forwarded", (long long)m->host,
			       (int)len, name);
	if (*m->host_ip && !addr_parse(m->host_ip, strlen(m->host_ip), &addr))
		return err_set(err, EINVAL, "port %lld: '%s' is not an address", (long long)m->host,
			       m->host_ip);
	snprintf(spec, sizeof(spec), "%s%s%lld-%lld:%lld-%lld", m->host_ip, *m->host_ip ? "/" : "",
		 (long long)m->host, (long long)(m->host + m->range - 1), (long long)m->container,
		 (long long)(m->container + m->range - 1));
	return portspec_parse(proto, spec, &env, rules, err);
}

/* Each of its protocols. */
static int mapping_add_all(const struct mapping *m, struct rules *rules, struct err *err)
{
	const char *p = m->protocols;
	int ret;

	for (;;) {
		size_t len = strcspn(p, ",");

		ret = mapping_add(m, p, len, rules, err);
		if (ret < 0 || !p[len])
			return ret;
		p += len + 1;
	}
}

static int rootlessport_mappings(json_t *mappings, struct rules *rules, struct err *err)
{
	json_t *json;
	size_t i;
	int ret = 0;

	json_array_foreach(mappings, i, json)
	{
		struct mapping m;

		ret = mapping_read(json, &m, err);
		if (ret == 0)
			ret = mapping_add_all(&m, rules, err);
		if (ret < 0)
			break;
	}
	return ret;
}

static int rootlessport_check(const struct conf *c, const char *child_ip, struct addr *ret_prefer,
			      struct err *err)
{
	if (!*c->netns)
		return err_set(err, EINVAL, "Podman's configuration: NetNSPath is empty");
	if (c->exit_fd < 3 || fcntl(c->exit_fd, F_GETFD) < 0)
		return err_set(err, EBADF, "Podman's configuration: ExitFD %d is not open",
			       c->exit_fd);
	if (c->ready_fd < 3 || fcntl(c->ready_fd, F_GETFD) < 0)
		return err_set(err, EBADF, "Podman's configuration: ReadyFD %d is not open",
			       c->ready_fd);
	if (*child_ip && !addr_parse(child_ip, strlen(child_ip), ret_prefer))
		return err_set(err, EINVAL,
			       "Podman's configuration: ChildIP '%s' is not an address", child_ip);
	return 0;
}

static int rootlessport_unpack(struct rootlessport *rp, struct conf *c, struct err *err)
{
	const char *child_ip = "", *tmp_dir = "", *id = "";
	json_t *mappings = NULL;
	json_error_t why;
	int reload = 0, ret;

	if (json_unpack_ex(rp->config, &why, 0, "{s:o, s:s, s:i, s:i, s?s, s?s, s?s, s?b}",
			   "Mappings", &mappings, "NetNSPath", &c->netns, "ExitFD", &c->exit_fd,
			   "ReadyFD", &c->ready_fd, "TmpDir", &tmp_dir, "ChildIP", &child_ip,
			   "ContainerID", &id, "RootlessCNI", &reload) != 0)
		return err_set(err, EINVAL, "Podman's configuration: %s", why.text);
	ret = rootlessport_check(c, child_ip, &c->prefer, err);
	if (ret == 0)
		ret = rootlessport_mappings(mappings, &c->rules, err);
	if (ret < 0 || !reload)
		return ret;
	if (!*tmp_dir || !*id || strchr(id, '/'))
		return err_set(err, EINVAL, "Podman's configuration: no TmpDir or ContainerID");
	if (asprintf(&rp->socket_path, "%s/rp/%s", tmp_dir, id) < 0) {
		rp->socket_path = NULL;
		return err_sys(err, ENOMEM, "Podman's configuration");
	}
	c->reload_socket = rp->socket_path;
	return 0;
}

int rootlessport_parse(int argc, FILE *in, struct rootlessport *rp, struct conf *ret,
		       struct err *err)
{
	struct conf c = conf_defaults();
	json_error_t why;
	int code;

	*rp = (struct rootlessport){ 0 };
	if (argc > 1)
		return err_set(err, EINVAL,
			       "under the name " ROOTLESSPORT_NAME
			       " there are no arguments: Podman gives JSON on standard input");
	rp->config = json_loadf(in, 0, &why);
	if (!rp->config)
		return err_set(err, EINVAL, "Podman's configuration: %s", why.text);
	c.foreground = true;
	c.detach = true;
	code = rootlessport_unpack(rp, &c, err);
	if (code < 0) {
		conf_free(&c);
		rootlessport_free(rp);
		return code;
	}
	*ret = c;
	return 0;
}

void rootlessport_free(struct rootlessport *rp)
{
	json_decref(rp->config);
	free(rp->socket_path);
	*rp = (struct rootlessport){ 0 };
}
