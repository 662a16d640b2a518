/*
 * The hook that a site writes after MDSplus' template (treeshr/Notify.c.template): printf, with date and process id.
 * It flushes unless TEMPLATE_FLUSH=0. What the hook library is measured against, and what glued lines look like.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char *TreeGetPath(int nid);
extern void TreeFree(void *path);

static const char *const NAMES[] = {"OpenTree",         "OpenTreeEdit",      "RetrieveTree", "WriteTree", "CloseTree",
                                    "OpenNCIFileWrite", "OpenDataFileWrite", "GetData",      "GetNci",    "PutData",
                                    "PutNci"};

int Notify(int type, char *tree, int shot, int nid) {
  char now[32];
  const time_t seconds = time(NULL);
  const char *flush = getenv("TEMPLATE_FLUSH");
  char *path = type >= 7 ? TreeGetPath(nid) : NULL;
  ctime_r(&seconds, now);
  now[strcspn(now, "\n")] = '\0';
  printf("%s (pid %d) %s called for tree=%s, shot=%d, node=%s\n", now, (int)getpid(), NAMES[type], tree, shot,
         path ? path : "N/A");
  if (flush == NULL || *flush != '0')
    fflush(stdout);
  TreeFree(path);
  return 1;
}
