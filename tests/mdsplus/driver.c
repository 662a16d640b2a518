/*
 * Plays mdsip: loads the libraries as LibFindImageSymbol does (dlopen by name, for itself alone) and calls the hook.
 *
 *   driver HOOK call TYPE TREE SHOT NID [TYPE TREE SHOT NID ...]   TREE - is a NULL pointer, TYPE a number
 *   driver HOOK storm PROCESSES THREADS CALLS    node ids 0 ... PROCESSES * THREADS * CALLS - 1, each once
 *   driver HOOK closed FILE     standard output is closed and FILE opened in its place before the library is loaded
 *   driver HOOK swapped FILE    the same, after it was loaded
 *   driver HOOK late FILE       standard output is closed before it is loaded, FILE is written in its place afterwards
 *   driver HOOK inet            standard output is a TCP connection; prints on stderr what came over it
 *   driver HOOK fork            one call, fork, one call in the child, one in the parent
 *   driver HOOK cancel          a thread is cancelled while the hook works for it
 *   driver HOOK full            output to a file limited to 1 000 bytes, then the limit is raised
 *   driver HOOK names           what strftime calls this day and month, on stderr
 *   driver HOOK|- cost CALLS THREADS TYPE   CPU ns a call on stderr; - is no hook
 *   driver HOOK pause           one call, then waits for the end of stdin
 *
 * Exit 2: the hook did not return 1, or ours changed errno (the template's may). Exit 3: it kept a path. Exit 4: the driver itself failed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef int Hook(int type, char *tree, int shot, int nid);

static Hook *notify;
static void (*set_client_addr)(int);
static long (*not_freed)(void);
static void *tree_library;
static int calls, threads_of_one, keeps_errno;

static void fail(const char *what) {
  fprintf(stderr, "driver: %s: %s\n", what, strerror(errno));
  exit(4);
}

static void *library(const char *name) {
  void *handle = dlopen(name, RTLD_LAZY);
  if (!handle) {
    fprintf(stderr, "driver: %s\n", dlerror());
    exit(4);
  }
  return handle;
}

static void load_hook(const char *name) {
  keeps_errno = strcmp(name, "libTreeShrHooks.so") == 0;
  if (strcmp(name, "-") != 0)
    notify = (Hook *)dlsym(library(name), "Notify");
  Hook **back = dlsym(tree_library, "stub_notify");
  if (back)
    *back = notify;
}

static void call(int type, char *tree, int shot, int nid) {
  errno = 4242;
  if (notify(type, tree, shot, nid) != 1 || (keeps_errno && errno != 4242))
    _exit(2);
}

static void *work(void *first) {
  const int start = *(const int *)first;
  if (set_client_addr)
    set_client_addr((int)inet_addr("192.0.2.17") + (int)htonl((uint32_t)(start / calls)));
  for (int i = 0; i < calls; i++)
    call(7 + i % 4, "EAST", 138000 + i, start + i);
  return NULL;
}

static void storm_process(int process) {
  pthread_t ids[64];
  int firsts[64];
  for (int t = 0; t < threads_of_one; t++) {
    firsts[t] = (process * threads_of_one + t) * calls;
    if (pthread_create(&ids[t], NULL, work, &firsts[t]) != 0)
      fail("pthread_create");
  }
  for (int t = 0; t < threads_of_one; t++)
    pthread_join(ids[t], NULL);
}

static int storm(int processes) {
  int worst = 0, status = 0;
  for (int p = 0; p < processes; p++) {
    const pid_t child = fork();
    if (child < 0)
      fail("fork");
    if (child == 0) {
      storm_process(p);
      fflush(stdout);
      _exit(not_freed() ? 3 : 0);
    }
  }
  while (wait(&status) > 0)
    worst = status ? (WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)) : worst;
  return worst;
}

static void put_in_place_of_stdout(const char *file, int access) {
  close(STDOUT_FILENO);
  if (open(file, access | O_CREAT, 0600) != STDOUT_FILENO)
    fail(file);
}

static void inet(const char *hook) {
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof here;
  const int listener = socket(AF_INET, SOCK_STREAM, 0), peer = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&here, size) || listen(listener, 1) ||
      getsockname(listener, (struct sockaddr *)&here, &size) || connect(peer, (struct sockaddr *)&here, size))
    fail("inet");
  close(STDOUT_FILENO);
  if (accept(listener, NULL, NULL) != STDOUT_FILENO)
    fail("accept");
  load_hook(hook);
  call(7, "EAST", 1, 7);
  shutdown(STDOUT_FILENO, SHUT_WR);
  char text[512];
  const ssize_t came = read(peer, text, sizeof text);
  fprintf(stderr, "came over the connection: %zd bytes\n", came);
}

static int paused[2];

static void pause_here(void) {
  char byte = 'x';
  if (write(paused[1], &byte, 1) != 1)
    fail("pause");
  usleep(200000);
}

static void *cancelled(void *nothing) {
  call(7, "EAST", 1, 11);
  pthread_testcancel();
  call(7, "EAST", 1, 12);
  return nothing;
}

static void cancel(void) {
  pthread_t id;
  char byte;
  void (**pause_in_path)(void) = dlsym(tree_library, "stub_pause");
  if (pipe(paused) != 0 || pause_in_path == NULL)
    fail("cancel");
  *pause_in_path = pause_here;
  pthread_create(&id, NULL, cancelled, NULL);
  if (read(paused[0], &byte, 1) != 1)
    fail("cancel");
  pthread_cancel(id);
  pthread_join(id, NULL);
  *pause_in_path = NULL;
  call(7, "EAST", 1, 13);
}

static void limit_files(rlim_t bytes) {
  struct rlimit limit;
  getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = bytes;
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
    fail("setrlimit");
}

static void full(const char *hook) {
  limit_files(1000);
  load_hook(hook);
  for (int i = 0; i < 20; i++)
    call(7, "EAST", 1, i);
  limit_files(1000000);
  for (int i = 20; i < 23; i++)
    call(7, "EAST", 1, i);
}

static int cost_type;

static void *cost_of_one(void *nothing) {
  for (int i = 0; i < calls; i++)
    if (notify) /* as TreeCallHook asks */
      notify(cost_type, "EAST", 138001, i);
  return nothing;
}

static void cost(void) {
  pthread_t ids[64];
  struct timespec began, ended;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
  for (int t = 0; t < threads_of_one; t++)
    pthread_create(&ids[t], NULL, cost_of_one, NULL);
  for (int t = 0; t < threads_of_one; t++)
    pthread_join(ids[t], NULL);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
  const double ns = (double)(ended.tv_sec - began.tv_sec) * 1e9 + (double)(ended.tv_nsec - began.tv_nsec);
  fprintf(stderr, "%.1f\n", ns / calls / threads_of_one);
}

int main(int argc, char **argv) {
  if (argc < 3)
    return 4;
  const char *hook = argv[1], *what = argv[2];
  setlocale(LC_TIME, "");
  tree_library = library("libTreeShr.so");
  not_freed = (long (*)(void))dlsym(tree_library, "stub_not_freed");
  if (getenv("NO_MDSIP") == NULL)
    set_client_addr = (void (*)(int))dlsym(library("libMdsIpShr.so"), "MdsSetClientAddr");
  if (set_client_addr)
    set_client_addr((int)inet_addr("192.0.2.17"));
  if (strcmp(what, "inet") == 0 || strcmp(what, "full") == 0) {
    (*what == 'i' ? inet : full)(hook);
    return 0;
  }
  if (strcmp(what, "closed") == 0)
    put_in_place_of_stdout(argv[3], O_RDWR);
  if (strcmp(what, "late") == 0)
    close(STDOUT_FILENO);
  load_hook(hook);
  if (strcmp(what, "call") == 0) {
    for (int i = 3; i + 3 < argc; i += 4)
      call(atoi(argv[i]), strcmp(argv[i + 1], "-") ? argv[i + 1] : NULL, atoi(argv[i + 2]), atoi(argv[i + 3]));
  } else if (strcmp(what, "storm") == 0) {
    threads_of_one = atoi(argv[4]);
    calls = atoi(argv[5]);
    return storm(atoi(argv[3]));
  } else if (strcmp(what, "closed") == 0) {
    call(7, "EAST", 1, 7);
  } else if (strcmp(what, "swapped") == 0) {
    call(7, "EAST", 1, 6);
    put_in_place_of_stdout(argv[3], O_RDWR);
    call(7, "EAST", 1, 7);
  } else if (strcmp(what, "late") == 0) {
    put_in_place_of_stdout(argv[3], O_WRONLY);
    call(7, "EAST", 1, 7);
  } else if (strcmp(what, "fork") == 0) {
    int status = 0;
    call(7, "EAST", 1, 1);
    const pid_t child = fork();
    call(7, "EAST", 1, child ? 3 : 2);
    if (child == 0)
      _exit(0);
    waitpid(child, &status, 0);
    fprintf(stderr, "%d %d\n", (int)getpid(), (int)child);
  } else if (strcmp(what, "cancel") == 0) {
    cancel();
  } else if (strcmp(what, "names") == 0) {
    char text[64];
    const time_t now = time(NULL);
    strftime(text, sizeof text, "%a %b", localtime(&now));
    fprintf(stderr, "%s\n", text);
    call(7, "EAST", 1, 7);
  } else if (strcmp(what, "cost") == 0) {
    calls = atoi(argv[3]);
    threads_of_one = atoi(argv[4]);
    cost_type = atoi(argv[5]);
    cost();
  } else if (strcmp(what, "pause") == 0) {
    char byte;
    call(7, "EAST", 1, 7);
    fprintf(stderr, "ready\n");
    if (read(STDIN_FILENO, &byte, 1) < 0)
      return 4;
  } else {
    return 4;
  }
  return not_freed() ? 3 : 0;
}
