#include "datagram.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Holds the address of either family. */
typedef union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;

static struct in6_addr mapped(struct in_addr v4) {
    struct in6_addr v6 = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(v6.s6_addr + 12, &v4, sizeof v4);
    return v6;
}

/* True and a socket on a port of the kernel's choice, or false and errno. */
static bool open_family(mnd_datagram_socket *s, bool ipv6, uint16_t *port) {
    const int no = 0;
    address any = {.any = {.sa_family = ipv6 ? AF_INET6 : AF_INET}};
    socklen_t length = ipv6 ? sizeof any.v6 : sizeof any.v4;
    s->ipv6 = ipv6;
    s->fd = socket(any.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0) return false;
    if ((!ipv6 || setsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) == 0) &&
        bind(s->fd, &any.any, length) == 0 && getsockname(s->fd, &any.any, &length) == 0) {
        *port = ipv6 ? any.v6.sin6_port : any.v4.sin_port;
        return true;
    }
    const int why = errno;
    close(s->fd);
    s->fd = -1;
    errno = why;
    return false;
}

static void add(mnd_endpoint *me, const struct in6_addr *a) {
    for (int i = 0; i < me->n_address; i++)
        if (memcmp(&me->address[i], a, sizeof *a) == 0) return;
    if (me->n_address < MND_ADDRESSES) me->address[me->n_address++] = *a;
}

mnd_status mnd_datagram_open(mnd_datagram_socket *s, mnd_endpoint *me) {
    struct ifaddrs *list = NULL;
    *me = (mnd_endpoint){.n_address = 0};
    if (!open_family(s, true, &me->port) && !open_family(s, false, &me->port))
        return mnd_fail(MND_COMM, "the watchdog cannot open a UDP socket: %s", strerror(errno));
    if (getifaddrs(&list) != 0)
        return mnd_fail(MND_COMM, "the watchdog cannot list the network interfaces: %s",
                        strerror(errno));
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        if (i->ifa_addr == NULL) continue;
        if ((i->ifa_flags & IFF_LOOPBACK) != 0 || (i->ifa_flags & IFF_UP) == 0) continue;
        if (i->ifa_addr->sa_family == AF_INET) {
            const struct in6_addr a = mapped(((const struct sockaddr_in *)i->ifa_addr)->sin_addr);
            add(me, &a);
        } else if (i->ifa_addr->sa_family == AF_INET6) {
            const struct in6_addr *a = &((const struct sockaddr_in6 *)i->ifa_addr)->sin6_addr;
            /* Another host would have to name its own interface with a link-local address. */
            if (!IN6_IS_ADDR_LINKLOCAL(a)) add(me, a);
        }
    }
    freeifaddrs(list);
    return MND_OK;
}

void mnd_datagram_send(const mnd_datagram_socket *s, const struct in6_addr *to, uint16_t port,
                       const void *data, size_t size) {
    address at = {.any = {.sa_family = AF_UNSPEC}};
    socklen_t length = sizeof at.v6;
    if (s->ipv6) {
        at.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = *to};
    } else {
        if (!IN6_IS_ADDR_V4MAPPED(to)) return;
        at.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
        memcpy(&at.v4.sin_addr, to->s6_addr + 12, sizeof at.v4.sin_addr);
        length = sizeof at.v4;
    }
    (void)sendto(s->fd, data, size, MSG_DONTWAIT, &at.any, length);
}

void mnd_datagram_send_all(const mnd_datagram_socket *s, const mnd_endpoint *to, bool loopback,
                           const void *data, size_t size) {
    const struct in6_addr here = mapped((struct in_addr){.s_addr = htonl(INADDR_LOOPBACK)});
    if (loopback) mnd_datagram_send(s, &here, to->port, data, size);
    for (int i = 0; i < to->n_address; i++)
        mnd_datagram_send(s, &to->address[i], to->port, data, size);
}

bool mnd_datagram_receive(const mnd_datagram_socket *s, void *data, size_t size, size_t *n,
                          struct in6_addr *from) {
    address at;
    socklen_t length = sizeof at;
    const ssize_t got = recvfrom(s->fd, data, size, MSG_DONTWAIT, &at.any, &length);
    if (got < 0) return false;
    *n = (size_t)got;
    *from = s->ipv6 ? at.v6.sin6_addr : mapped(at.v4.sin_addr);
    return true;
}
