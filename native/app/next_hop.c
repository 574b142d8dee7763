/* SPDX-License-Identifier: Apache-2.0 */
#include "next_hop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <libmnl/libmnl.h>

#include "app.h"

#define REFRESH_MS 1000 /* also without an event: neighbours age silently */
#define REQUEST_LEN 256 /* bytes of a request: two headers and an address */
#define SETTLE_US 20000 /* events come in swarms: look once per swarm */
#define NUD_USABLE (NUD_PERMANENT | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_NOARP)

/* What one look into the kernel's tables found. */
struct look {
    int ifindex;
    bool has_router;
    uint8_t router[16];
    uint32_t metric;
    uint16_t neighbour_state; /* 0 = no entry */
    uint64_t router_mac;
    uint64_t own_mac;
};

static uint64_t mac_number(const uint8_t mac[6])
{
    uint64_t number = 0;

    memcpy(&number, mac, 6);
    return number;
}

/* Netlink attributes by type; unknown ones are skipped. */
struct attributes {
    const struct nlattr **table;
    uint16_t max;
};

static int collect(const struct nlattr *attribute, void *data)
{
    const struct attributes *attributes = data;

    if (mnl_attr_get_type(attribute) <= attributes->max) {
        attributes->table[mnl_attr_get_type(attribute)] = attribute;
    }
    return MNL_CB_OK;
}

static void take_router(struct look *look, const struct nlattr *gateway, uint32_t metric)
{
    if (mnl_attr_get_payload_len(gateway) != 16 || (look->has_router && look->metric <= metric)) {
        return;
    }
    memcpy(look->router, mnl_attr_get_payload(gateway), 16);
    look->metric = metric;
    look->has_router = true;
}

static void take_multipath(struct look *look, const struct nlattr *multipath, uint32_t metric)
{
    const struct rtnexthop *hop = mnl_attr_get_payload(multipath);
    int left = mnl_attr_get_payload_len(multipath);

    for (; RTNH_OK(hop, left); left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop)) {
        const struct nlattr *table[RTA_MAX + 1] = {NULL};
        struct attributes attributes = {table, RTA_MAX};

        if (hop->rtnh_ifindex != look->ifindex) {
            continue;
        }
        mnl_attr_parse_payload(RTNH_DATA(hop), hop->rtnh_len - sizeof(*hop), collect, &attributes);
        if (table[RTA_GATEWAY]) {
            take_router(look, table[RTA_GATEWAY], metric);
        }
    }
}

static int see_route(const struct nlmsghdr *message, void *data)
{
    const struct rtmsg *route = mnl_nlmsg_get_payload(message);
    const struct nlattr *table[RTA_MAX + 1] = {NULL};
    struct attributes attributes = {table, RTA_MAX};
    struct look *look = data;
    uint32_t metric;

    if (message->nlmsg_type != RTM_NEWROUTE || route->rtm_family != AF_INET6 || route->rtm_dst_len != 0 ||
        route->rtm_type != RTN_UNICAST || route->rtm_table != RT_TABLE_MAIN) {
        return MNL_CB_OK;
    }
    mnl_attr_parse(message, sizeof(*route), collect, &attributes);
    metric = table[RTA_PRIORITY] ? mnl_attr_get_u32(table[RTA_PRIORITY]) : 0;
    if (table[RTA_MULTIPATH]) {
        take_multipath(look, table[RTA_MULTIPATH], metric);
    } else if (table[RTA_GATEWAY] && table[RTA_OIF] && (int)mnl_attr_get_u32(table[RTA_OIF]) == look->ifindex) {
        take_router(look, table[RTA_GATEWAY], metric);
    }
    return MNL_CB_OK;
}

static int see_neighbour(const struct nlmsghdr *message, void *data)
{
    const struct ndmsg *neighbour = mnl_nlmsg_get_payload(message);
    const struct nlattr *table[NDA_MAX + 1] = {NULL};
    struct attributes attributes = {table, NDA_MAX};
    struct look *look = data;

    if (message->nlmsg_type != RTM_NEWNEIGH || neighbour->ndm_ifindex != look->ifindex) {
        return MNL_CB_OK;
    }
    mnl_attr_parse(message, sizeof(*neighbour), collect, &attributes);
    if (!table[NDA_DST] || mnl_attr_get_payload_len(table[NDA_DST]) != 16 ||
        memcmp(mnl_attr_get_payload(table[NDA_DST]), look->router, 16) != 0) {
        return MNL_CB_OK;
    }
    look->neighbour_state = neighbour->ndm_state;
    if (neighbour->ndm_state & NUD_USABLE && table[NDA_LLADDR] && mnl_attr_get_payload_len(table[NDA_LLADDR]) == 6) {
        look->router_mac = mac_number(mnl_attr_get_payload(table[NDA_LLADDR]));
    }
    return MNL_CB_OK;
}

static int see_link(const struct nlmsghdr *message, void *data)
{
    const struct ifinfomsg *link = mnl_nlmsg_get_payload(message);
    const struct nlattr *table[IFLA_MAX + 1] = {NULL};
    struct attributes attributes = {table, IFLA_MAX};
    struct look *look = data;

    if (message->nlmsg_type != RTM_NEWLINK || link->ifi_index != look->ifindex) {
        return MNL_CB_OK;
    }
    mnl_attr_parse(message, sizeof(*link), collect, &attributes);
    if (table[IFLA_ADDRESS] && mnl_attr_get_payload_len(table[IFLA_ADDRESS]) == 6) {
        look->own_mac = mac_number(mnl_attr_get_payload(table[IFLA_ADDRESS]));
    }
    return MNL_CB_OK;
}

/* Sends a request and feeds the answer's messages to `see`. */
static bool ask(struct mnl_socket *socket, struct nlmsghdr *request, mnl_cb_t see, struct look *look)
{
    static _Thread_local char buffer[32768];
    static _Thread_local unsigned sequence;
    ssize_t n;
    int rc = MNL_CB_OK;

    request->nlmsg_seq = ++sequence;
    if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0) {
        return false;
    }
    while (rc > MNL_CB_STOP) {
        n = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
        if (n < 0) {
            return false;
        }
        rc = mnl_cb_run(buffer, (size_t)n, sequence, mnl_socket_get_portid(socket), see, look);
    }
    return rc == MNL_CB_STOP;
}

/* Begins a request with the header of its type, `size` bytes of zeros: mnl_nlmsg_get_payload finds it. */
static struct nlmsghdr *start_request(char *buffer, uint16_t type, uint16_t flags, size_t size)
{
    struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

    request->nlmsg_type = type;
    request->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    (void)mnl_nlmsg_put_extra_header(request, size);
    return request;
}

static bool ask_routes(struct mnl_socket *socket, struct look *look)
{
    char buffer[REQUEST_LEN];
    struct nlmsghdr *request = start_request(buffer, RTM_GETROUTE, NLM_F_DUMP, sizeof(struct rtmsg));
    struct rtmsg *route = mnl_nlmsg_get_payload(request);

    route->rtm_family = AF_INET6;
    return ask(socket, request, see_route, look);
}

static bool ask_neighbours(struct mnl_socket *socket, struct look *look)
{
    char buffer[REQUEST_LEN];
    struct nlmsghdr *request = start_request(buffer, RTM_GETNEIGH, NLM_F_DUMP, sizeof(struct ndmsg));
    struct ndmsg *neighbour = mnl_nlmsg_get_payload(request);

    neighbour->ndm_family = AF_INET6;
    return ask(socket, request, see_neighbour, look);
}

static bool ask_link(struct mnl_socket *socket, struct look *look)
{
    char buffer[REQUEST_LEN];
    struct nlmsghdr *request = start_request(buffer, RTM_GETLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
    struct ifinfomsg *link = mnl_nlmsg_get_payload(request);

    link->ifi_family = AF_UNSPEC;
    link->ifi_index = look->ifindex;
    return ask(socket, request, see_link, look);
}

/* Makes the kernel resolve, or confirm, the router's address: what sending a packet through the kernel would do. */
static void ask_resolution(struct mnl_socket *socket, struct look *look)
{
    char buffer[REQUEST_LEN];
    struct nlmsghdr *request = start_request(buffer, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE, sizeof(struct ndmsg));
    struct ndmsg *neighbour = mnl_nlmsg_get_payload(request);

    neighbour->ndm_family = AF_INET6;
    neighbour->ndm_ifindex = look->ifindex;
    neighbour->ndm_flags = NTF_USE;
    mnl_attr_put(request, NDA_DST, 16, look->router);
    (void)ask(socket, request, see_neighbour, look); /* refused: the next look tries again */
}

static void refresh(struct og_next_hop *hop, struct mnl_socket *socket)
{
    struct look look = {.ifindex = (int)if_nametoindex(hop->interface)};

    if (look.ifindex == 0 || !ask_routes(socket, &look) || !ask_link(socket, &look)) {
        return; /* keep what we have: a netlink hiccup must not stop traffic */
    }
    if (look.own_mac) {
        atomic_store_explicit(&hop->own_mac, look.own_mac, memory_order_relaxed);
    }
    if (!look.has_router) {
        atomic_store_explicit(&hop->router_mac, 0, memory_order_relaxed);
        return;
    }
    if (!ask_neighbours(socket, &look)) {
        return;
    }
    /* A known router whose entry was collected or is being resolved again keeps its address until resolving failed. */
    if (look.router_mac || look.neighbour_state & NUD_FAILED) {
        atomic_store_explicit(&hop->router_mac, look.router_mac, memory_order_relaxed);
    }
    if (!(look.neighbour_state &
          (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_DELAY | NUD_PROBE | NUD_INCOMPLETE))) {
        ask_resolution(socket, &look);
    }
}

static void drain(struct mnl_socket *events)
{
    char buffer[8192];

    /* What an event says does not matter, nor if some were lost (ENOBUFS): the next step is to look at the tables. */
    while (recv(mnl_socket_get_fd(events), buffer, sizeof(buffer), MSG_DONTWAIT) > 0 || errno == ENOBUFS) {
        errno = 0;
    }
}

static struct mnl_socket *open_socket(unsigned groups)
{
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

    if (socket && mnl_socket_bind(socket, groups, MNL_SOCKET_AUTOPID) < 0) {
        mnl_socket_close(socket);
        return NULL;
    }
    return socket;
}

static uint32_t follow(void *argument)
{
    struct og_next_hop *hop = argument;
    struct mnl_socket *events = open_socket(RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV6_ROUTE);
    struct mnl_socket *requests = open_socket(0);

    if (!events || !requests) {
        og_log("next hop: cannot open netlink: %s", strerror(errno));
    }
    while (events && requests && !atomic_load(&hop->stop)) {
        struct pollfd wait = {.fd = mnl_socket_get_fd(events), .events = POLLIN};
        const struct timespec settle = {.tv_nsec = SETTLE_US * 1000L};

        refresh(hop, requests);
        /* Unknown: look again soon, the answer to a solicitation may come without an event we asked for. */
        if (poll(&wait, 1, atomic_load(&hop->router_mac) ? REFRESH_MS : 100) > 0) {
            nanosleep(&settle, NULL);
            drain(events);
        }
    }
    if (events) {
        mnl_socket_close(events);
    }
    if (requests) {
        mnl_socket_close(requests);
    }
    return 0;
}

bool og_next_hop_follow(struct og_next_hop *hop, const char *interface, struct og_error *error)
{
    int rc;

    snprintf(hop->interface, sizeof(hop->interface), "%s", interface);
    if (if_nametoindex(interface) == 0) {
        return og_fail(error, "next hop: %s: no such interface", interface);
    }
    rc = rte_thread_create_control(&hop->thread, "og-next-hop", follow, hop);
    if (rc) {
        return og_fail(error, "next hop: cannot start a thread: %s", strerror(-rc));
    }
    hop->running = true;
    return true;
}

void og_next_hop_fix(struct og_next_hop *hop, const uint8_t router_mac[6], const uint8_t own_mac[6])
{
    atomic_store(&hop->router_mac, mac_number(router_mac));
    atomic_store(&hop->own_mac, mac_number(own_mac));
}

void og_next_hop_stop(struct og_next_hop *hop)
{
    if (!hop->running) {
        return;
    }
    atomic_store(&hop->stop, true);
    (void)rte_thread_join(hop->thread, NULL);
    hop->running = false;
}
