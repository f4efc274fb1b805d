/* datagram.h - UDP between the processes of a run, by IPv4 and IPv6. Datagrams may be lost. */
#ifndef MND_DATAGRAM_H
#define MND_DATAGRAM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

enum { MND_ADDRESSES = 32 };

/* Where a process receives; plain bytes, which are exchanged over MPI. */
typedef struct mnd_endpoint {
    struct in6_addr address[MND_ADDRESSES]; /* of all interfaces; IPv4 as ::ffff:a.b.c.d */
    int32_t n_address;
    uint16_t port; /* network order */
    uint16_t unused;
} mnd_endpoint;

typedef struct mnd_datagram_socket {
    int fd;
    bool ipv6; /* false: the kernel has only IPv4 */
} mnd_datagram_socket;

/* Opens a socket on a free port and tells where it receives. fd is -1 on failure. */
MND_CHECKED mnd_status mnd_datagram_open(mnd_datagram_socket *s, mnd_endpoint *me);
/* Sends to one address. Never waits. */
void mnd_datagram_send(const mnd_datagram_socket *s, const struct in6_addr *to, uint16_t port,
                       const void *data, size_t size);
/*
 * Sends to every address of `to`, since only some of them may be reachable from here, and with
 * `loopback` to this host as well.
 */
void mnd_datagram_send_all(const mnd_datagram_socket *s, const mnd_endpoint *to, bool loopback,
                           const void *data, size_t size);
/* One datagram that has arrived and its sender's address. False: there is none. Never waits. */
bool mnd_datagram_receive(const mnd_datagram_socket *s, void *data, size_t size, size_t *n,
                          struct in6_addr *from);

#endif
