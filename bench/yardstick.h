/* Figures of other programs, run for a moment: what the loopback and the cipher give at best. */
#ifndef TAILRACE_BENCH_YARDSTICK_H
#define TAILRACE_BENCH_YARDSTICK_H

#include <stdbool.h>
#include <stdint.h>

/* One TCP stream over the loopback by iperf3 with writes of so many bytes, GB/s; 0 where it is not
 * installed or failed. anywhere: its two processes run where the kernel likes; else on the CPUs the
 * sides of a link are pinned to. */
double yardstick_iperf3(double seconds, uint32_t bytes, bool anywhere);
/* AES-128-GCM of one core in records of 16 KiB by `openssl speed`, GB/s; 0 as above. */
double yardstick_openssl(void);

#endif
