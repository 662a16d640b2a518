/*
 * libTreeShrHooks.so: one line in a data server's log for every operation on a tree.
 *
 * MDSplus' TreeShr looks for a library of this name when it first opens a tree, and calls its `Notify` at every open,
 * close, read and write. The line goes to standard output, where mdsip writes its own connection lines:
 *
 *   Sat Nov 21 22:49:07 2026 (pid 7953) GetData called for tree=EAST, shot=138001, node=\EAST::TOP.MAGNETICS:FLUX
 *
 * and with PINGMESH_HOOK_EXTENDED=on, at its end
 *
 *   , nid=263, thread=7961, client=192.0.2.17
 *
 * Promises, each held by a test:
 * - A line is one write(2) of at most PIPE_BUF bytes: threads and processes that share a log never mix their lines.
 * - A name is printable ASCII without blanks and commas, whatever it is in the tree: other bytes become \xNN.
 * - The server never notices: Notify always returns 1 (what TreeShr assumes without a hook), keeps errno, raises no
 *   signal, takes no lock of ours, is no cancellation point, and calls nothing of the tree but TreeGetPath: anything
 *   else would come back here.
 *
 * It needs no MDSplus to be built: what it calls is looked up when it is loaded. C11 as gcc 4.8 knows it, which is why
 * it says __thread and __atomic.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SOURCE
#define SOURCE "unknown"
#endif

/* The order is MDSplus' (include/treeshr_hooks.h). From GetData on, a call is about one node. */
typedef enum {
  OpenTree,
  OpenTreeEdit,
  RetrieveTree,
  WriteTree,
  CloseTree,
  OpenNCIFileWrite,
  OpenDataFileWrite,
  GetData,
  GetNci,
  PutData,
  PutNci,
  HOOK_TYPES
} TreeshrHookType;

static const char *const TYPE_NAMES[HOOK_TYPES] = {
    "OpenTree",          "OpenTreeEdit", "RetrieveTree", "WriteTree", "CloseTree", "OpenNCIFileWrite",
    "OpenDataFileWrite", "GetData",      "GetNci",       "PutData",   "PutNci"};

enum {
  ALL_TYPES = (1 << HOOK_TYPES) - 1,
  /* Those that say nothing about a user: a tree is looked for, a file of it is opened. */
  QUIET_TYPES = 1 << RetrieveTree | 1 << OpenNCIFileWrite | 1 << OpenDataFileWrite,
  TREE_BYTES = 256,
  PATH_BYTES = 3072,
  FRAME_BYTES = 512, /* all of a line but its names */
  LINE_BYTES = TREE_BYTES + PATH_BYTES + FRAME_BYTES
};
_Static_assert(LINE_BYTES + 1 <= PIPE_BUF, "a longer line is not written in one piece to a pipe");

#define NOT_THERE "N/A"
#define CUT_MARK "..."

/* Found in the file by whoever wants to know what it was built from: pingmesh-hook-source=<sha256>. */
__attribute__((used)) static const char SOURCE_MARK[] = "pingmesh-hook-source=" SOURCE;

/* Set once, when the library is loaded; only read afterwards. */
static unsigned types = ALL_TYPES & ~(unsigned)QUIET_TYPES;
static bool with_path = true;
static bool extended = false;
static char *(*get_path)(int nid);
static void (*free_path)(void *path) = free;
static int (*get_client_addr)(void);
static pid_t process; /* and again in a child after fork() */
static bool stdout_was_open;
static struct stat log_file;
static int log_flags;
static bool file_size_limited;

static __thread bool inside; /* TreeGetPath may come back to Notify */
static bool torn;            /* the log ends in a piece of a line of ours */

/*
 * Is `fd` something that a log goes to? In a server that closed its standard output, descriptor 1 is soon the socket
 * of a client or a file of a tree, and a line of text in it would be the end of both.
 */
static bool takes_log(int fd, const struct stat *file) {
  if (S_ISSOCK(file->st_mode)) {
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &size) == 0 && name.ss_family == AF_UNIX; /* the journal */
  }
  if (S_ISREG(file->st_mode)) {
    const int flags = fcntl(fd, F_GETFL);
    return flags != -1 && ((flags & O_ACCMODE) == O_WRONLY || (flags & O_APPEND));
  }
  return true;
}

/*
 * Asked before every line, for the mode of what is written to; 0 if nothing may be. A file that is only appended to is
 * known by that: nothing of MDSplus' is opened so. fstat() would tell more, but makes the next write pay for a finer
 * time stamp: half as much again as the write itself, on Linux 6.13 and later.
 */
static mode_t log_mode(void) {
  struct stat now;
  if (!stdout_was_open)
    return 0;
  if (log_flags & O_APPEND && fcntl(STDOUT_FILENO, F_GETFL) == log_flags)
    return log_file.st_mode;
  if (fstat(STDOUT_FILENO, &now) != 0)
    return 0;
  if (now.st_dev == log_file.st_dev && now.st_ino == log_file.st_ino)
    return now.st_mode;
  return takes_log(STDOUT_FILENO, &now) ? now.st_mode : 0;
}

/* Copy `name` so that it can neither end the line, nor look like another field of it, nor be longer than `size`. */
static const char *printable(const char *name, char *copy, size_t size) {
  static const char HEX[] = "0123456789ABCDEF";
  size_t used = 0;
  if (name == NULL || *name == '\0')
    return NOT_THERE;
  for (; *name != '\0'; name++) {
    const unsigned char byte = (unsigned char)*name;
    const bool plain = byte > ' ' && byte < 0x7F && byte != ',';
    if (used + (plain ? 1 : 4) > size - sizeof CUT_MARK) {
      memcpy(copy + used, CUT_MARK, sizeof CUT_MARK);
      return copy;
    }
    if (plain) {
      copy[used++] = *name;
    } else {
      copy[used++] = '\\';
      copy[used++] = 'x';
      copy[used++] = HEX[byte >> 4];
      copy[used++] = HEX[byte & 15];
    }
  }
  copy[used] = '\0';
  return copy;
}

/* ctime() without its newline, English in every locale. Made once a second in a thread: it takes libc's zone lock. */
static const char *date(void) {
  static __thread time_t second = -1;
  static __thread char text[32];
  const time_t now = time(NULL);
  if (now != second) {
    if (ctime_r(&now, text) == NULL)
      return "Thu Jan  1 00:00:00 1970";
    text[strcspn(text, "\n")] = '\0';
    second = now;
  }
  return text;
}

static const char *client(char *text, socklen_t size) {
  const struct in_addr address = {.s_addr = get_client_addr ? (in_addr_t)get_client_addr() : 0};
  return address.s_addr != 0 && inet_ntop(AF_INET, &address, text, size) ? text : NOT_THERE;
}

static ssize_t put(const char *text, size_t size) {
  ssize_t written;
  do
    written = write(STDOUT_FILENO, text, size);
  while (written < 0 && errno == EINTR);
  return written;
}

/* The same where a reader may have gone (SIGPIPE) or a file be at its limit (SIGXFSZ): an error here, no signal. */
static ssize_t put_quietly(const char *text, size_t size) {
  static const struct timespec AT_ONCE;
  sigset_t ours, before, waiting;
  sigemptyset(&ours);
  sigaddset(&ours, SIGPIPE);
  sigaddset(&ours, SIGXFSZ);
  pthread_sigmask(SIG_BLOCK, &ours, &before);
  const ssize_t written = put(text, size);
  if (written < 0 && (errno == EPIPE || errno == EFBIG)) {
    const int raised = errno == EPIPE ? SIGPIPE : SIGXFSZ;
    sigemptyset(&ours);
    sigaddset(&ours, raised);
    /* One that the server itself keeps blocked is left to it: it may have waited there before. */
    if (!sigismember(&before, raised) && sigpending(&waiting) == 0 && sigismember(&waiting, raised))
      sigtimedwait(&ours, NULL, &AT_ONCE);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return written;
}

/*
 * Write the line that begins after line[0], which is a newline. A disk that fills up takes a piece of a line: the piece
 * is ended by that newline and the whole line follows, now or with the next call. To go on in the middle would mix it
 * with what another process wrote meanwhile.
 */
static void write_line(const char *line, size_t size, mode_t log) {
  ssize_t (*const put_all)(const char *, size_t) = S_ISREG(log) && !file_size_limited ? put : put_quietly;
  const bool mend = __atomic_exchange_n(&torn, false, __ATOMIC_RELAXED);
  const size_t first = mend ? 0 : 1;
  ssize_t written = put_all(line + first, size - first);
  if (written > 0 && (size_t)written < size - first && (written = put_all(line, size)) != (ssize_t)size)
    __atomic_store_n(&torn, true, __ATOMIC_RELAXED);
  else if (written <= 0 && mend)
    __atomic_store_n(&torn, true, __ATOMIC_RELAXED);
}

static void tell(TreeshrHookType type, const char *tree, int shot, int nid, mode_t log) {
  char line[LINE_BYTES + 1], tree_copy[TREE_BYTES], path_copy[PATH_BYTES], address[INET_ADDRSTRLEN];
  char *path = type >= GetData && with_path && get_path ? get_path(nid) : NULL;
  int size = snprintf(line, sizeof line, "\n%s (pid %d) %s called for tree=%s, shot=%d, node=%s", date(), (int)process,
                      TYPE_NAMES[type], printable(tree, tree_copy, sizeof tree_copy), shot,
                      printable(path, path_copy, sizeof path_copy));
  if (path != NULL)
    free_path(path);
  if (extended)
    size += snprintf(line + size, sizeof line - (size_t)size, ", nid=%d, thread=%ld, client=%s", nid,
                     syscall(SYS_gettid), client(address, sizeof address));
  line[size++] = '\n'; /* in place of the final NUL: FRAME_BYTES leaves room */
  write_line(line, (size_t)size, log);
}

__attribute__((visibility("default"))) int Notify(TreeshrHookType type, char *tree, int shot, int nid);

int Notify(TreeshrHookType type, char *tree, int shot, int nid) {
  const int before = errno;
  mode_t log;
  int cancel;
  if ((unsigned)type >= HOOK_TYPES || !(types & 1u << type) || inside)
    return 1;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel); /* mdsip cancels its threads, anywhere */
  inside = true;
  if ((log = log_mode()) != 0)
    tell(type, tree, shot, nid, log);
  inside = false;
  pthread_setcancelstate(cancel, NULL);
  errno = before;
  return 1;
}

/* ---------------------------------------------------------------------------------- when the library is loaded */

static void warn(const char *what, const char *name, size_t size) {
  char text[512];
  struct stat file;
  const int used = snprintf(text, sizeof text, "libTreeShrHooks: %s%.*s\n", what, (int)(size < 64 ? size : 64), name);
  if (fstat(STDERR_FILENO, &file) == 0 && takes_log(STDERR_FILENO, &file) && write(STDERR_FILENO, text, (size_t)used) < 0)
    return; /* nobody is left to be told */
}

static bool is_on(const char *variable, bool otherwise) {
  const char *value = getenv(variable);
  if (value == NULL || *value == '\0')
    return otherwise;
  if (strcasecmp(value, "on") == 0 || strcmp(value, "1") == 0)
    return true;
  if (strcasecmp(value, "off") != 0 && strcmp(value, "0") != 0) {
    warn("neither on nor off, ignored: ", variable, strlen(variable));
    return otherwise;
  }
  return false;
}

static unsigned chosen_types(const char *list, unsigned otherwise) {
  static const char BETWEEN[] = ", \t";
  unsigned chosen = 0;
  if (list == NULL || *list == '\0')
    return otherwise;
  for (list += strspn(list, BETWEEN); *list != '\0'; list += strspn(list, BETWEEN)) {
    const size_t size = strcspn(list, BETWEEN);
    int type = 0;
    while (type < HOOK_TYPES && (strlen(TYPE_NAMES[type]) != size || strncasecmp(list, TYPE_NAMES[type], size) != 0))
      type++;
    if (type < HOOK_TYPES)
      chosen |= 1u << type;
    else if (size == 3 && strncasecmp(list, "all", size) == 0)
      chosen |= ALL_TYPES;
    else if (size != 4 || strncasecmp(list, "none", size) != 0)
      warn("no such type in PINGMESH_HOOK_TYPES, ignored: ", list, size);
    list += size;
  }
  return chosen;
}

/* mdsip opens some of its libraries for itself alone (RTLD_LOCAL): those are asked by name, and never loaded by us. */
static void *find(const char *library, const char *symbol) {
  void *found = dlsym(RTLD_DEFAULT, symbol);
  void *handle = found ? NULL : dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  return handle ? dlsym(handle, symbol) : found;
}

static void remember_process(void) { process = getpid(); }

__attribute__((constructor)) static void load(void) {
  void *tree_free = find("libTreeShr.so", "TreeFree");
  struct rlimit limit;
  remember_process();
  pthread_atfork(NULL, NULL, remember_process);
  file_size_limited = getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
  types = chosen_types(getenv("PINGMESH_HOOK_TYPES"), types);
  with_path = is_on("PINGMESH_HOOK_PATH", true);
  extended = is_on("PINGMESH_HOOK_EXTENDED", false);
  get_path = (char *(*)(int))find("libTreeShr.so", "TreeGetPath");
  get_client_addr = (int (*)(void))find("libMdsIpShr.so", "MdsGetClientAddr");
  if (tree_free != NULL)
    free_path = (void (*)(void *))tree_free;
  if (get_path == NULL && with_path)
    warn("TreeGetPath is not there, every node reads " NOT_THERE, "", 0);
  stdout_was_open = fstat(STDOUT_FILENO, &log_file) == 0;
  if (!stdout_was_open || !takes_log(STDOUT_FILENO, &log_file)) {
    warn("standard output is no log (closed, a network connection, or a file also open for reading)", "", 0);
    log_file = (struct stat){0};
  } else if (S_ISREG(log_file.st_mode)) {
    log_flags = fcntl(STDOUT_FILENO, F_GETFL);
    if ((log_flags & O_ACCMODE) != O_WRONLY || !(log_flags & O_APPEND))
      log_flags = 0; /* nothing to know it by */
  }
}
