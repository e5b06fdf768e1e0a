/* The interface: what every backend would check alike is checked here. */
#include "orchestrator/orchestrator.h"

#include "core/base/mem.h"

#include <stdio.h>

enum { NAME_MAX_LEN = 64, SCALE_MAX = 256, PORTS_MAX = 16 };

/* Names become file names, host names and label values: what all of them allow. */
static bool name_ok(const char *name)
{
    ASSERT(name != NULL);
    size_t len = strlen(name);
    bool ok = len > 0 && len <= NAME_MAX_LEN && name[0] != '.';
    for (size_t i = 0; ok && i < len; i++) {
        char c = name[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_' || c == '.';
    }
    return ok;
}

static err_t check_name(const char *service)
{
    if (!name_ok(service)) {
        return err_new(ERR_INVALID,
                       "service name \"%s\": 1 to %d letters, digits, '-', '_' and '.'", service,
                       (int)NAME_MAX_LEN);
    }
    return ERR_OK;
}

/* Names are how addresses are asked for: each once. */
static err_t check_ports(const char *service, const struct orchestrator_service_config *config)
{
    ASSERT(config->ports != NULL || config->ports_len == 0);
    if (config->ports_len > PORTS_MAX) {
        return err_new(ERR_INVALID, "service %s: %zu ports, at most %d", service, config->ports_len,
                       (int)PORTS_MAX);
    }
    for (size_t i = 0; i < config->ports_len; i++) {
        if (!name_ok(config->ports[i].name)) {
            return err_new(ERR_INVALID, "service %s: port name \"%s\"", service,
                           config->ports[i].name);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(config->ports[i].name, config->ports[j].name) == 0) {
                return err_new(ERR_INVALID, "service %s: two ports \"%s\"", service,
                               config->ports[i].name);
            }
        }
    }
    return ERR_OK;
}

err_t orchestrator_ensure_service(struct orchestrator *o, const char *service,
                                  const struct orchestrator_service_config *config)
{
    ASSERT(o != NULL && service != NULL && config != NULL);
    ASSERT(config->make_args != NULL);
    TRY(check_name(service));
    if (config->image == NULL || config->image[0] == '\0') {
        return err_new(ERR_INVALID, "service %s has no image", service);
    }
    if (config->scale == 0 || config->scale > SCALE_MAX) {
        return err_new(ERR_INVALID, "service %s: scale %u, allowed is 1 to %d", service,
                       config->scale, (int)SCALE_MAX);
    }
    TRY(check_ports(service, config));
    return o->ops->ensure_service(o, service, config);
}

err_t orchestrator_drop_service(struct orchestrator *o, const char *service)
{
    ASSERT(o != NULL && service != NULL);
    TRY(check_name(service));
    return o->ops->drop_service(o, service);
}

void orchestrator_list_services(struct orchestrator *o, orchestrator_list_fn each, void *arg)
{
    ASSERT(o != NULL && each != NULL);
    o->ops->list_services(o, each, arg);
}

void orchestrator_watch_services(struct orchestrator *o, orchestrator_watch_fn watch, void *arg)
{
    ASSERT(o != NULL);
    o->ops->watch_services(o, watch, arg);
}

const char *orchestrator_address(struct orchestrator *o, const char *service, uint32_t process,
                                 const char *port)
{
    ASSERT(o != NULL && service != NULL && port != NULL);
    return o->ops->address(o, service, process, port);
}

void orchestrator_free(struct orchestrator *o)
{
    if (o != NULL) {
        o->ops->free(o);
    }
}

/* ---- arguments ------------------------------------------------------------------------------- */

void orchestrator_args_add(struct orchestrator_args *args, const char *format, ...)
{
    ASSERT(args != NULL && format != NULL);
    va_list list;
    va_start(list, format);
    char *text = NULL;
    int len = vasprintf(&text, format, list);
    va_end(list);
    ASSERT(len >= 0);
    *VEC_PUSH(args, args) = text;
}

void orchestrator_args_free(struct orchestrator_args *args)
{
    ASSERT(args != NULL);
    for (size_t i = 0; i < args->args_len; i++) {
        free(args->args[i]);
    }
    free(args->args);
    *args = (struct orchestrator_args){0};
}
