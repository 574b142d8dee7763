/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool og_json_fail(const struct og_json_at *at, const char *format, ...)
{
    va_list arguments;
    int n = 0;

    if (at->path[0]) {
        n = snprintf(at->error->text, sizeof(at->error->text), "%s: ", at->path);
    }
    va_start(arguments, format);
    vsnprintf(at->error->text + n, sizeof(at->error->text) - (size_t)n, format, arguments);
    va_end(arguments);
    return false;
}

bool og_json_fail_member(const struct og_json_at *object, const char *name, const char *format, ...)
{
    char text[sizeof(object->error->text)];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    snprintf(object->error->text, sizeof(object->error->text), "%s%s%s: %.350s", object->path,
             object->path[0] ? "." : "", name, text);
    return false;
}

/* Fails with "<what>: <the value, shortened>". */
static bool fail_value(const struct og_json_at *at, const char *what)
{
    char *dump = json_dumps(at->value, JSON_ENCODE_ANY | JSON_COMPACT);

    og_json_fail(at, "%s: %.80s%s", what, dump ? dump : "?", dump && strlen(dump) > 80 ? "..." : "");
    free(dump);
    return false;
}

bool og_json_root(json_t *value, struct og_json_error *error, struct og_json_at *root)
{
    root->value = value;
    root->path[0] = '\0';
    root->error = error;
    return json_is_object(value) || og_json_fail(root, "not a JSON object");
}

bool og_json_only(const struct og_json_at *object, const char *const *names)
{
    const char *key;
    json_t *value;

    json_object_foreach(object->value, key, value)
    {
        bool known = false;

        for (size_t i = 0; names[i] && !known; i++) {
            known = strcmp(names[i], key) == 0;
        }
        if (!known) {
            return og_json_fail(object, "unknown member \"%.64s\"", key);
        }
    }
    return true;
}

bool og_json_has(const struct og_json_at *object, const char *name)
{
    return json_object_get(object->value, name) != NULL;
}

static bool member(const struct og_json_at *object, const char *name, struct og_json_at *out)
{
    out->value = json_object_get(object->value, name);
    out->error = object->error;
    snprintf(out->path, sizeof(out->path), "%.90s%s%.32s", object->path, object->path[0] ? "." : "", name);
    return out->value || og_json_fail(out, "is missing");
}

bool og_json_object(const struct og_json_at *object, const char *name, struct og_json_at *out)
{
    if (!member(object, name, out)) {
        return false;
    }
    return json_is_object(out->value) || fail_value(out, "not an object");
}

bool og_json_array(const struct og_json_at *object, const char *name, size_t max, struct og_json_at *out)
{
    if (!member(object, name, out)) {
        return false;
    }
    if (!json_is_array(out->value)) {
        return fail_value(out, "not an array");
    }
    return json_array_size(out->value) <= max ||
           og_json_fail(out, "has %zu entries, at most %zu are allowed", json_array_size(out->value), max);
}

bool og_json_item(const struct og_json_at *array, size_t index, struct og_json_at *out)
{
    out->value = json_array_get(array->value, index);
    out->error = array->error;
    snprintf(out->path, sizeof(out->path), "%.100s[%zu]", array->path, index);
    return out->value || og_json_fail(out, "is missing");
}

bool og_json_number(const struct og_json_at *at, uint64_t min, uint64_t max, uint64_t *out)
{
    json_int_t value;

    if (!json_is_integer(at->value)) {
        return fail_value(at, "not an integer");
    }
    value = json_integer_value(at->value);
    if (value < 0 || (uint64_t)value < min || (uint64_t)value > max) {
        return og_json_fail(at, "%lld is not in %llu..%llu", (long long)value, (unsigned long long)min,
                            (unsigned long long)max);
    }
    *out = (uint64_t)value;
    return true;
}

bool og_json_u64(const struct og_json_at *object, const char *name, uint64_t min, uint64_t max, uint64_t *out)
{
    struct og_json_at at;

    return member(object, name, &at) && og_json_number(&at, min, max, out);
}

bool og_json_bool(const struct og_json_at *object, const char *name, bool *out)
{
    struct og_json_at at;

    if (!member(object, name, &at)) {
        return false;
    }
    *out = json_is_true(at.value);
    return json_is_boolean(at.value) || fail_value(&at, "neither true nor false");
}

bool og_json_text(const struct og_json_at *at, char *out, size_t size)
{
    const char *text = json_string_value(at->value);

    if (!text) {
        return fail_value(at, "not a string");
    }
    if (text[0] == '\0') {
        return og_json_fail(at, "is empty");
    }
    if (strlen(text) >= size) {
        return og_json_fail(at, "longer than %zu bytes", size - 1);
    }
    for (const char *c = text; *c; c++) {
        if (iscntrl((unsigned char)*c)) {
            return fail_value(at, "has a control character");
        }
    }
    memcpy(out, text, strlen(text) + 1);
    return true;
}

bool og_json_string(const struct og_json_at *object, const char *name, char *out, size_t size)
{
    struct og_json_at at;

    return member(object, name, &at) && og_json_text(&at, out, size);
}

bool og_json_hex(const struct og_json_at *object, const char *name, uint8_t *out, size_t n)
{
    struct og_json_at at;
    const char *text;

    if (!member(object, name, &at)) {
        return false;
    }
    text = json_string_value(at.value);
    if (!text || strlen(text) != 2 * n || strspn(text, "0123456789abcdefABCDEF") != 2 * n) {
        char what[64];

        snprintf(what, sizeof(what), "not %zu hexadecimal digits", 2 * n);
        return fail_value(&at, what);
    }
    for (size_t i = 0; i < n; i++) {
        char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};

        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return true;
}

bool og_json_text_ipv6(const struct og_json_at *at, uint8_t out[16])
{
    const char *text = json_string_value(at->value);

    return (text && inet_pton(AF_INET6, text, out) == 1) || fail_value(at, "not an IPv6 address");
}

bool og_json_text_locator(const struct og_json_at *at, uint8_t out[8])
{
    static const uint8_t zero[8];
    uint8_t address[16];

    if (!og_json_text_ipv6(at, address)) {
        return false;
    }
    if (memcmp(address + 8, zero, 8) != 0) {
        return fail_value(at, "not a locator (the last 64 bits must be zero)");
    }
    memcpy(out, address, 8);
    return true;
}

bool og_json_text_prefix(const struct og_json_at *at, uint8_t out[16], uint8_t *length)
{
    const char *text = json_string_value(at->value);
    const char *slash = text ? strchr(text, '/') : NULL;
    char address[INET6_ADDRSTRLEN];
    char *end;
    unsigned long bits;

    if (!slash || (size_t)(slash - text) >= sizeof(address) || !isdigit((unsigned char)slash[1])) {
        return fail_value(at, "not an IPv6 prefix");
    }
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = '\0';
    bits = strtoul(slash + 1, &end, 10);
    if (*end || bits > 128 || inet_pton(AF_INET6, address, out) != 1) {
        return fail_value(at, "not an IPv6 prefix");
    }
    for (unsigned long bit = bits; bit < 128; bit++) {
        if (out[bit / 8] & (0x80u >> (bit % 8))) {
            return fail_value(at, "has bits set beyond its length");
        }
    }
    *length = (uint8_t)bits;
    return true;
}

bool og_json_ipv6(const struct og_json_at *object, const char *name, uint8_t out[16])
{
    struct og_json_at at;

    return member(object, name, &at) && og_json_text_ipv6(&at, out);
}

bool og_json_locator(const struct og_json_at *object, const char *name, uint8_t out[8])
{
    struct og_json_at at;

    return member(object, name, &at) && og_json_text_locator(&at, out);
}

bool og_json_mac(const struct og_json_at *object, const char *name, uint8_t out[6])
{
    struct og_json_at at;
    const char *text;
    unsigned int b[6];
    char rest;

    if (!member(object, name, &at)) {
        return false;
    }
    text = json_string_value(at.value);
    if (!text || strlen(text) != 17 ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &rest) != 6) {
        return fail_value(&at, "not a MAC address");
    }
    for (size_t i = 0; i < 6; i++) {
        out[i] = (uint8_t)b[i];
    }
    return (out[0] & 1) == 0 || fail_value(&at, "a multicast MAC address");
}
