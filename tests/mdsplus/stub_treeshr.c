/* Plays MDSplus' libTreeShr.so: TreeGetPath with every answer that a hook may meet, chosen by the node id. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NO_PATH = -1, EMPTY = -2, LONG = -3, HOSTILE = -4, COMES_BACK = -5, CUT_OFF = -6 };

int (*stub_notify)(int type, char *tree, int shot, int nid); /* for a TreeGetPath that comes back to the hook */
void (*stub_pause)(void);
static long handed_out;

char *TreeGetPath(int nid) {
  char *path = NULL;
  if (nid == NO_PATH)
    return NULL;
  __atomic_add_fetch(&handed_out, 1, __ATOMIC_RELAXED);
  if (nid == LONG || nid == CUT_OFF) {
    const size_t size = nid == LONG ? 100000 : 3100;
    path = malloc(size + 1);
    memset(path, 'A', size);
    path[0] = '\\';
    path[size] = '\0';
    return path;
  }
  path = malloc(128);
  if (nid == EMPTY)
    path[0] = '\0';
  else if (nid == HOSTILE)
    strcpy(path, "\\EAST::A B,C\tD\r\nE\033[31mF\x7fG\xc3\xa4\xff, nid=7");
  else
    snprintf(path, 128, "\\EAST::TOP.MAGNETICS:N%09d", nid);
  if (nid == COMES_BACK && stub_notify)
    stub_notify(8, "EAST", 1, 5);
  if (stub_pause)
    stub_pause();
  errno = ENOENT;
  return path;
}

void TreeFree(void *path) {
  if (path)
    __atomic_sub_fetch(&handed_out, 1, __ATOMIC_RELAXED);
  free(path);
}

long stub_not_freed(void) { return __atomic_load_n(&handed_out, __ATOMIC_RELAXED); }
