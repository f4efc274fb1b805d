/* test.h - cmocka with the headers it wants in front of it. */
#ifndef MND_TEST_H
#define MND_TEST_H

/* The order is cmocka's demand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
