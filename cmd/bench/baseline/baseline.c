/*
 * What the suite is measured against: the same things in C with nothing around them, after the reproducer of 2021.
 *
 *	baseline cycle CPU N	takes the CPU offline and online N times, and prints the nanoseconds that each time took
 *	baseline detect CPU N	does so while another process waits for the online uevent and calls sched_setaffinity(2) to
 *				the CPU; prints how many of these calls failed with EINVAL
 *	baseline react CPU	says "ready", then waits for the online uevent and calls sched_setaffinity(2) to the CPU
 *
 * As a machine's init it says "init" on the second serial line.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "baseline: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_online(int cpu)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	return fd;
}

static void cycle(int fd)
{
	if (write(fd, "0", 1) != 1)
		die("offline");
	if (write(fd, "1", 1) != 1)
		die("online");
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int open_uevents(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		die("uevent socket");
	return fd;
}

/* Waits for the next online uevent of the CPU, then pins this process to the CPU. Returns the errno of that. */
static int react(int fd, int cpu)
{
	char want[64], msg[8192];
	cpu_set_t one, all;
	int err;

	snprintf(want, sizeof(want), "online@/devices/system/cpu/cpu%d", cpu);
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	memset(&all, 0xff, sizeof(all));
	do {
		ssize_t n = recv(fd, msg, sizeof(msg) - 1, 0);

		if (n < 0)
			die("recv");
		msg[n] = 0;
	} while (strcmp(msg, want));
	err = sched_setaffinity(0, sizeof(one), &one) ? errno : 0;
	sched_setaffinity(0, sizeof(all), &all);
	return err;
}

static int detect(int cpu, int n)
{
	int events = open_uevents(), online = open_online(cpu);
	int failed = 0, i;
	pid_t writer = fork();

	if (writer < 0)
		die("fork");
	if (writer == 0) {
		for (i = 0; i < n; i++)
			cycle(online);
		exit(0);
	}
	for (i = 0; i < n; i++)
		failed += react(events, cpu) == EINVAL;
	waitpid(writer, NULL, 0);
	return failed;
}

/* There is nobody to tell of an error: the other end of the line waits in vain. */
static void init(void)
{
	int line;

	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	line = open("/dev/ttyS1", O_WRONLY | O_NOCTTY);
	if (write(line, "init\n", 5) == 5)
		for (;;)
			pause();
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";
	int cpu = argc > 2 ? atoi(argv[2]) : 0, n = argc > 3 ? atoi(argv[3]) : 0;

	if (getpid() == 1) {
		init();
	} else if (!strcmp(mode, "cycle")) {
		int fd = open_online(cpu);

		while (n-- > 0) {
			long long start = now();

			cycle(fd);
			printf("%lld\n", now() - start);
		}
	} else if (!strcmp(mode, "detect")) {
		printf("%d\n", detect(cpu, n));
	} else if (!strcmp(mode, "react")) {
		int fd = open_uevents();

		puts("ready");
		fflush(stdout);
		react(fd, cpu);
	} else {
		fprintf(stderr, "usage: baseline cycle|detect|react CPU [N]\n");
		return 2;
	}
	return 0;
}
