#include "lib/perceiver.h"

#include "version.h"

const char *pcv_version(void)
{
    return PCV_VERSION;
}
