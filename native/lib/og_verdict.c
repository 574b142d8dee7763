/* SPDX-License-Identifier: Apache-2.0 */
#include "og_verdict.h"

static const struct {
    const char *name, *text;
    enum og_verdict_class class;
} verdicts[OG_V_COUNT] = {
#define OG_X(symbol, verdict_name, verdict_class, verdict_text)                                                        \
    [OG_V_##symbol] = {.name = verdict_name, .text = verdict_text, .class = OG_CLASS_##verdict_class},
    OG_VERDICTS(OG_X)
#undef OG_X
};

enum og_verdict_class og_verdict_class(enum og_verdict verdict)
{
    return verdicts[verdict].class;
}

const char *og_verdict_name(enum og_verdict verdict)
{
    return verdicts[verdict].name;
}

const char *og_verdict_text(enum og_verdict verdict)
{
    return verdicts[verdict].text;
}
