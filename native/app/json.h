/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading JSON documents that people and other programs wrote. Each reader checks type and range, and an error names
 * the place and what was there: `agents[2].locator: not an IPv6 address: "5f00::zz"`. Only the first error is kept.
 */
#ifndef OG_JSON_H
#define OG_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

struct og_json_error {
    char text[512];
};

/* A value and where it is: `services[0]`; the root's path is "". */
struct og_json_at {
    json_t *value;
    char path[128];
    struct og_json_error *error;
};

__attribute__((format(printf, 2, 3))) bool og_json_fail(const struct og_json_at *at, const char *format, ...);

/* The same of a member: "<path>.<name>: ...". */
__attribute__((format(printf, 3, 4))) bool og_json_fail_member(const struct og_json_at *object, const char *name,
                                                               const char *format, ...);

/* The root of a document, which must be an object. */
bool og_json_root(json_t *value, struct og_json_error *error, struct og_json_at *root);
/* Refuses members that are not in the NULL-ended list: a mistyped name must not be a silent default. */
bool og_json_only(const struct og_json_at *object, const char *const *names);

bool og_json_has(const struct og_json_at *object, const char *name);
/* All below fail if the member is missing. */
bool og_json_object(const struct og_json_at *object, const char *name, struct og_json_at *out);
bool og_json_array(const struct og_json_at *object, const char *name, size_t max, struct og_json_at *out);
bool og_json_item(const struct og_json_at *array, size_t index, struct og_json_at *out);
/* Minimum and maximum are inclusive. */
bool og_json_u64(const struct og_json_at *object, const char *name, uint64_t min, uint64_t max, uint64_t *out);
bool og_json_bool(const struct og_json_at *object, const char *name, bool *out);
/* Between 1 and size - 1 bytes, none of them a control character. */
bool og_json_string(const struct og_json_at *object, const char *name, char *out, size_t size);
/* Exactly n bytes, written as 2 n hexadecimal digits. */
bool og_json_hex(const struct og_json_at *object, const char *name, uint8_t *out, size_t n);
bool og_json_ipv6(const struct og_json_at *object, const char *name, uint8_t out[16]);
/* An IPv6 address whose last 64 bits are zero. */
bool og_json_locator(const struct og_json_at *object, const char *name, uint8_t out[8]);
bool og_json_mac(const struct og_json_at *object, const char *name, uint8_t out[6]);

/* The same for items of arrays. */
bool og_json_number(const struct og_json_at *at, uint64_t min, uint64_t max, uint64_t *out);
bool og_json_text(const struct og_json_at *at, char *out, size_t size);
bool og_json_text_ipv6(const struct og_json_at *at, uint8_t out[16]);
bool og_json_text_locator(const struct og_json_at *at, uint8_t out[8]);
bool og_json_text_prefix(const struct og_json_at *at, uint8_t out[16], uint8_t *length);

#endif
