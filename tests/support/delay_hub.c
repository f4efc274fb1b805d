/*
 * delay_hub.c - joins the network interfaces it is given as an Ethernet switch whose every frame
 * arrives some microseconds late: a stand-in for the distance between hosts, where the kernel has
 * no netem.
 *
 *   delay_hub MICROSECONDS INTERFACE INTERFACE...
 *
 * Runs until it is killed. Needs CAP_NET_RAW.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mnist_dist/timer.h"

/* A frame may be a whole burst of TCP (64 KB) that the network card would cut. */
enum { MAX_PORTS = 16, MAX_FRAME = 66 * 1024, N_FRAMES = 4096 };

typedef struct frame {
    double due;
    int from;
    size_t size; /* with the virtio header that tells checksums and cuts still to be made */
    unsigned char data[MAX_FRAME];
} frame;

static int port[MAX_PORTS], n_ports;
static unsigned char station[MAX_PORTS][ETH_ALEN]; /* who was last heard behind each port */

static void die(const char *what, const char *name) {
    fprintf(stderr, "delay_hub: %s: %s: %s\n", name, what, strerror(errno));
    exit(1);
}

static int open_port(const char *name) {
    const int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    if (fd < 0) die("socket", name);
    const int one = 1, bytes = 32 << 20;
    const struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                        .sll_protocol = htons(ETH_P_ALL),
                                        .sll_ifindex = (int)if_nametoindex(name)};
    if (address.sll_ifindex == 0) die("no such interface", name);
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0)
        die("setsockopt", name);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) die("bind", name);
    return fd;
}

static void forward(const frame *f) {
    const unsigned char *to = f->data + sizeof(struct virtio_net_hdr);
    memcpy(station[f->from], to + ETH_ALEN, ETH_ALEN);
    int only = -1;
    for (int i = 0; i < n_ports; i++)
        if (memcmp(station[i], to, ETH_ALEN) == 0) only = i;
    for (int i = 0; i < n_ports; i++)
        if (i != f->from && (only < 0 || only == i)) /* A lost frame is what TCP is made for. */
            if (send(port[i], f->data, f->size, 0) < 0 && errno != ENOBUFS && errno != ENETDOWN)
                fprintf(stderr, "delay_hub: %zu bytes lost: %s\n", f->size, strerror(errno));
}

int main(int argc, char **argv) {
    if (argc < 4 || argc - 2 > MAX_PORTS) {
        fprintf(stderr, "usage: delay_hub MICROSECONDS INTERFACE INTERFACE...\n");
        return 2;
    }
    const double delay = strtod(argv[1], NULL) * 1e-6;
    struct pollfd ready[MAX_PORTS];
    for (n_ports = 0; n_ports < argc - 2; n_ports++) {
        port[n_ports] = open_port(argv[n_ports + 2]);
        ready[n_ports] = (struct pollfd){.fd = port[n_ports], .events = POLLIN};
    }
    frame *queue = malloc(N_FRAMES * sizeof *queue);
    if (queue == NULL) die("memory", "queue");
    /* One delay for all: first in, first out. */
    for (uint64_t head = 0, tail = 0;;) {
        struct timespec left = {.tv_sec = 3600};
        if (head < tail) {
            const double seconds = queue[head % N_FRAMES].due - mnd_now();
            left = (struct timespec){.tv_nsec = seconds > 0 ? (long)(seconds * 1e9) : 0};
            if (seconds >= 1.0) left = (struct timespec){.tv_sec = 1};
        }
        /* A full queue leaves frames in the sockets. */
        if (ppoll(ready, tail - head < N_FRAMES - MAX_PORTS ? (nfds_t)n_ports : 0, &left, NULL) < 0)
            die("ppoll", "wait");
        for (int i = 0; i < n_ports && tail - head < N_FRAMES; i++) {
            frame *f = &queue[tail % N_FRAMES];
            const ssize_t n = recv(port[i], f->data, sizeof f->data, MSG_DONTWAIT);
            if (n < (ssize_t)(sizeof(struct virtio_net_hdr) + sizeof(struct ether_header)))
                continue;
            f->due = mnd_now() + delay;
            f->from = i;
            f->size = (size_t)n;
            tail++;
        }
        for (; head < tail && queue[head % N_FRAMES].due <= mnd_now(); head++)
            forward(&queue[head % N_FRAMES]);
    }
}
