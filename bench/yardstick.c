/*
 * iperf3 and openssl speed. See yardstick.h. Their output is searched, not parsed: one number.
 *
 * Each is a program of its own, started for a second: they are what people compare with, so they
 * are run as people run them. What they print is trusted; nothing depends on it but a ratio.
 */
#include "bench/yardstick.h"

#include "bench/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OUTPUT_MAX = 256 * 1024 };

/* The number behind the last occurrence of mark in what the command prints; 0: none. */
static double number_after(const char *command, const char *mark)
{
    static char output[OUTPUT_MAX];
    ASSERT(mark[0] != '\0');
    FILE *pipe = popen(command, "re");
    if (pipe == NULL) {
        return 0;
    }
    size_t len = fread(output, 1, sizeof(output) - 1, pipe);
    output[len] = '\0';
    if (pclose(pipe) != 0) {
        return 0;
    }
    double number = 0;
    for (char *at = strstr(output, mark); at != NULL; at = strstr(at + 1, mark)) {
        number = strtod(at + strlen(mark), NULL);
    }
    return number;
}

double yardstick_iperf3(double seconds, uint32_t bytes, bool anywhere)
{
    int port = link_free_port();
    char text[16];
    char command[192];
    ASSERT(seconds > 0);
    snprintf(text, sizeof(text), "%d", port);
    pid_t server = link_spawn((char *[]){"iperf3", "-s", "-1", "-p", text, NULL});
    if (server < 0) {
        return 0;
    }
    usleep(300 * 1000);
    /* -A: the CPUs of client and server, who send and receive as a flood's child and parent. */
    snprintf(command, sizeof(command),
             "iperf3 -c 127.0.0.1 -p %d -t %d -l %u %s -J 2>/dev/null", port,
             seconds < 2 ? 1 : (int)seconds, (unsigned)bytes, anywhere ? "" : "-A 1,0");
    /* JSON's last bits_per_second is the sum at the receiver. */
    double bits = number_after(command, "\"bits_per_second\":");
    link_kill(server);
    return bits / 8e9;
}

double yardstick_openssl(void)
{
    /* +F:<number>:<name>:<bytes a second> */
    double bytes = number_after(
        "openssl speed -mr -elapsed -seconds 1 -bytes 16384 -evp aes-128-gcm 2>/dev/null",
        "aes-128-gcm:");
    if (bytes == 0) {
        bytes = number_after(
            "openssl speed -mr -elapsed -seconds 1 -bytes 16384 -evp aes-128-gcm 2>/dev/null",
            "AES-128-GCM:");
    }
    return bytes / 1e9;
}
