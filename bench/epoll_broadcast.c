/* The floor for the relay: a WebSocket broadcaster that does nothing but send, in C with epoll.
 *
 * epoll_broadcast PORT CLIENTS PER_SECOND SECONDS BYTES
 *
 * Answers each handshake, waits until CLIENTS are connected, prints "go", then sends PER_SECOND text messages a
 * second to all of them for SECONDS. A message is due at start + i / PER_SECOND and carries that time (monotonic
 * clock, ns: an @ and 20 digits at its beginning) and is padded to BYTES. Prints the CPU seconds used while sending.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS 20000
#define MAX_REQUEST 4096

static uint32_t rol(uint32_t v, int n) { return (v << n) | (v >> (32 - n)); }

/* SHA-1 of a message shorter than 119 bytes (two blocks). */
static void sha1(const unsigned char *text, size_t size, unsigned char out[20])
{
    unsigned char block[128] = {0};
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    size_t blocks = size + 9 > 64 ? 2 : 1;
    memcpy(block, text, size);
    block[size] = 0x80;
    for (int i = 0; i < 8; i++) block[blocks * 64 - 1 - i] = (unsigned char)((uint64_t)size * 8 >> (8 * i));
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80], a = h[0], bb = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = block + b * 64 + i * 4;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) { f = (bb & c) | (~bb & d); k = 0x5A827999; }
            else if (i < 40) { f = bb ^ c ^ d; k = 0x6ED9EBA1; }
            else if (i < 60) { f = (bb & c) | (bb & d) | (c & d); k = 0x8F1BBCDC; }
            else { f = bb ^ c ^ d; k = 0xCA62C1D6; }
            uint32_t t = rol(a, 5) + f + e + k + w[i];
            e = d; d = c; c = rol(bb, 30); bb = a; a = t;
        }
        h[0] += a; h[1] += bb; h[2] += c; h[3] += d; h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const unsigned char in[20], char out[29])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int n = 0;
    for (int i = 0; i < 20; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)(i + 1 < 20 ? in[i + 1] : 0) << 8 | (i + 2 < 20 ? in[i + 2] : 0);
        out[n++] = digits[v >> 18 & 63];
        out[n++] = digits[v >> 12 & 63];
        out[n++] = digits[v >> 6 & 63];
        out[n++] = i + 2 < 20 ? digits[v & 63] : '=';
    }
    out[n] = 0;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int answer_handshake(int fd)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char request[MAX_REQUEST + 1], text[128], accept_key[29], reply[256];
    unsigned char digest[20];
    ssize_t got = recv(fd, request, MAX_REQUEST, 0);
    if (got <= 0) return -1;
    request[got] = 0;
    char *key = strcasestr(request, "Sec-WebSocket-Key:");
    if (!key) return -1;
    key += strlen("Sec-WebSocket-Key:");
    while (*key == ' ') key++;
    size_t size = strcspn(key, "\r\n ");
    if (size > 60) return -1;
    memcpy(text, key, size);
    memcpy(text + size, guid, sizeof guid);
    sha1((unsigned char *)text, size + sizeof guid - 1, digest);
    base64(digest, accept_key);
    int count = snprintf(reply, sizeof reply,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\n\r\n", accept_key);
    return send(fd, reply, (size_t)count, MSG_NOSIGNAL) == count ? 0 : -1;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: epoll_broadcast PORT CLIENTS PER_SECOND SECONDS BYTES\n");
        return 2;
    }
    int port = atoi(argv[1]), wanted = atoi(argv[2]), rate = atoi(argv[3]), seconds = atoi(argv[4]), bytes = atoi(argv[5]);
    if (wanted < 1 || wanted > MAX_CLIENTS || rate < 1 || bytes < 21 || bytes > 60000) return 2;
    static int ready[MAX_CLIENTS];
    int count = 0, one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("bind"); return 1; }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    while (count < wanted) {
        int found = epoll_wait(poller, events, 256, 30000);
        if (found <= 0) return 1;
        for (int i = 0; i < found; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0) continue;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = client};
                epoll_ctl(poller, EPOLL_CTL_ADD, client, &event);
            } else {
                epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL);
                if (answer_handshake(fd)) { close(fd); continue; }
                fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
                if (count < wanted) ready[count++] = fd;
            }
        }
    }
    printf("go\n");
    fflush(stdout);
    size_t head = bytes < 126 ? 2 : 4, size = head + (size_t)bytes;
    unsigned char *frame = malloc(size + 1);
    if (!frame) return 1;
    frame[0] = 0x81;
    if (head == 2) frame[1] = (unsigned char)bytes;
    else { frame[1] = 126; frame[2] = (unsigned char)(bytes >> 8); frame[3] = (unsigned char)bytes; }
    memset(frame + head, 'x', (size_t)bytes);
    double before_s = cpu_s();
    int64_t start = now_ns() + 500000000;
    long lost = 0;
    for (int64_t i = 0; i < (int64_t)rate * seconds; i++) {
        int64_t due = start + i * 1000000000 / rate;
        struct timespec until = {due / 1000000000, due % 1000000000};
        char stamp[24];
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        snprintf(stamp, sizeof stamp, "@%020lld", (long long)due);
        memcpy(frame + head, stamp, 21);
        for (int c = 0; c < count; c++)
            if (send(ready[c], frame, size, MSG_NOSIGNAL) != (ssize_t)size) lost++;
    }
    printf("{\"cpu_s\": %.6f, \"lost\": %ld}\n", cpu_s() - before_s, lost);
    fflush(stdout);
    sleep(1);
    return 0;
}
