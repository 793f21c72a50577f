/* notify.h -- tells the service manager how the daemon is, if it wants to know. */
#ifndef HEAPD_SERVER_NOTIFY_H
#define HEAPD_SERVER_NOTIFY_H

/* Sends a state such as "READY=1" to the socket in $NOTIFY_SOCKET; nothing happens without one. */
void notify_send(const char *state);

#endif
