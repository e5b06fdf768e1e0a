/* Figures of other programs, run for a moment: what the loopback and the cipher give at best. */
#ifndef TAILRACE_BENCH_YARDSTICK_H
#define TAILRACE_BENCH_YARDSTICK_H

/* One TCP stream over the loopback by iperf3, GB/s; 0 where it is not installed or failed. */
double yardstick_iperf3(double seconds);
/* AES-128-GCM of one core in records of 16 KiB by `openssl speed`, GB/s; 0 as above. */
double yardstick_openssl(void);

#endif
