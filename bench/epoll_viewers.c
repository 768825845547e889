/* Viewers for the benchmark of the relay: many WebSocket clients in one process, so cheap that they are not the limit.
 *
 * epoll_viewers PORT PATH CLIENTS MESSAGES SECONDS BYTES SUBSCRIBE
 *
 * Connects CLIENTS, sends each SUBSCRIBE (nothing when empty), prints "ready", and reads until each has MESSAGES
 * messages of exactly BYTES, or SECONDS have passed. Latency counts from the time that stands in a message after an
 * @ (monotonic clock, ns, 20 digits): the time when it was due. Prints delivered, p50_ms, p99_ms, max_ms, closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536

struct viewer {
    int fd;
    size_t held;
    unsigned char *buffer;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int join(int port, const char *path, const char *subscribe)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    char text[1024];
    unsigned char frame[1024] = {0x81};
    size_t have = 0, size = strlen(subscribe);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) return -1;
    int count = snprintf(text, sizeof text,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path);
    if (send(fd, text, (size_t)count, 0) != count) return -1;
    do { /* byte by byte: what follows the answer belongs to the frames */
        if (have + 1 >= sizeof text || recv(fd, text + have, 1, 0) != 1) return -1;
        have++;
    } while (have < 4 || memcmp(text + have - 4, "\r\n\r\n", 4));
    if (memcmp(text, "HTTP/1.1 101", 12)) return -1;
    if (size) { /* masked with zeros */
        size_t head = size < 126 ? 2 : 4;
        if (size > 1000) return -1;
        frame[1] = (unsigned char)(0x80 | (size < 126 ? size : 126));
        if (head == 4) { frame[2] = (unsigned char)(size >> 8); frame[3] = (unsigned char)size; }
        memcpy(frame + head + 4, subscribe, size);
        if (send(fd, frame, head + 4 + size, 0) != (ssize_t)(head + 4 + size)) return -1;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: epoll_viewers PORT PATH CLIENTS MESSAGES SECONDS BYTES SUBSCRIBE\n");
        return 2;
    }
    int clients = atoi(argv[3]), poller = epoll_create1(0), closed = 0;
    long expected = (long)clients * atoi(argv[4]), delivered = 0;
    size_t bytes = (size_t)atoi(argv[6]);
    int64_t deadline = 0;
    struct viewer *viewers = calloc((size_t)clients, sizeof *viewers);
    float *latency = malloc((size_t)expected * sizeof *latency);
    struct epoll_event events[256];
    if (!viewers || !latency) return 1;
    for (int i = 0; i < clients; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &viewers[i]};
        viewers[i].fd = join(atoi(argv[1]), argv[2], argv[7]);
        viewers[i].buffer = malloc(CHUNK);
        if (viewers[i].fd < 0 || !viewers[i].buffer) { fprintf(stderr, "client %d cannot join\n", i); return 1; }
        epoll_ctl(poller, EPOLL_CTL_ADD, viewers[i].fd, &event);
    }
    printf("ready\n");
    fflush(stdout);
    deadline = now_ns() + (int64_t)atoi(argv[5]) * 1000000000;
    while (delivered < expected && closed < clients && now_ns() < deadline) {
        int found = epoll_wait(poller, events, 256, 200);
        for (int e = 0; e < found; e++) {
            struct viewer *v = events[e].data.ptr;
            ssize_t got = recv(v->fd, v->buffer + v->held, CHUNK - v->held, 0);
            if (got <= 0) { epoll_ctl(poller, EPOLL_CTL_DEL, v->fd, NULL); close(v->fd); closed++; continue; }
            int64_t now = now_ns();
            size_t at = 0;
            v->held += (size_t)got;
            while (v->held - at >= 2) {
                unsigned char *f = v->buffer + at;
                size_t size = f[1] & 127, head = size == 126 ? 4 : 2;
                if (v->held - at < head) break;
                if (size == 126) size = (size_t)f[2] << 8 | f[3];
                if (v->held - at < head + size) break;
                unsigned char *stamp = size == bytes && (f[0] & 15) == 1 ? memchr(f + head, '@', size - 20) : NULL;
                if (stamp && delivered < expected)
                    latency[delivered++] = (float)((double)(now - strtoll((char *)stamp + 1, NULL, 10)) / 1e6);
                at += head + size;
            }
            memmove(v->buffer, v->buffer + at, v->held - at);
            v->held -= at;
        }
    }
    qsort(latency, (size_t)delivered, sizeof *latency, by_size);
    printf("{\"delivered\": %ld, \"expected\": %ld, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, \"closed\": %d}\n",
        delivered, expected, delivered ? (double)latency[delivered / 2] : -1.0,
        delivered ? (double)latency[delivered * 99 / 100] : -1.0, delivered ? (double)latency[delivered - 1] : -1.0, closed);
    return 0;
}
