/*
 * All links there are. BENCH_* are set by CMakeLists.txt for the peers it found.
 *
 * In the order of the tables' rows: ours, the floors below them, peers. The order is also that of
 * the runs within a case; each run is probed by itself, so nobody profits from his place.
 */
#include "bench/link.h"

const struct link_ops *const links[] = {
    &link_shm,
    &link_tcp,
    &link_tls,
    &link_boundary_shm,
    &link_boundary_tcp,
    &link_exchange_shm,
    &link_exchange_tcp,
    &link_ring,
    &link_bytes,
    &link_ring_futex,
    &link_ring_eventfd,
    &link_socket_tcp,
    &link_socket_sealed,
    &link_unix,
    &link_pipe,
#ifdef BENCH_ICEORYX
    &link_iceoryx,
#endif
#ifdef BENCH_ZMQ
    &link_zmq_ipc,
    &link_zmq_tcp,
#endif
#ifdef BENCH_NATS
    &link_nats,
#endif
#ifdef BENCH_REDIS
    &link_redis,
#endif
    NULL,
};

const char link_absent[] =
#ifndef BENCH_ICEORYX
    "iceoryx "
#endif
#ifndef BENCH_ZMQ
    "ZeroMQ "
#endif
#ifndef BENCH_NATS
    "NATS "
#endif
#ifndef BENCH_REDIS
    "Redis "
#endif
    "";
