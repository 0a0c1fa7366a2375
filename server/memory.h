/* memory.h - how much of it there is for this process. Any thread. */
#ifndef SRV_MEMORY_H
#define SRV_MEMORY_H

/* The machine's memory, or the smallest limit of the control groups (v1 or v2) above this process.
 */
double srv_memory_available(void);

#endif
