/* Plays the part of MDSplus' libMdsIpShr.so that knows whom a thread serves; addresses in network byte order. */
static __thread int client_addr;

int MdsGetClientAddr(void) { return client_addr; }

void MdsSetClientAddr(int addr) { client_addr = addr; }
