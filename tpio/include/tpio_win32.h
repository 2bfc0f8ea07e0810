/* The one place that includes Windows.
 *
 * Every file of the C core includes this header instead of <windows.h>, so that the same code also builds against the
 * simulated Win32 of tests/win32sim.
 */
#ifndef TPIO_WIN32_H
#define TPIO_WIN32_H

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0A00
#endif

#include <winsock2.h> /* before windows.h, which would bring the old winsock.h */
#include <ws2tcpip.h>
#include <mswsock.h>
#include <windows.h>

#include <stdint.h>

#endif
