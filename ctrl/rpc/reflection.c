/*
 * Server reflection (grpc.reflection.v1 and v1alpha, which have the same wire form): tells tools
 * such as grpcurl which services there are and what their messages look like. The answers come
 * from the serialised descriptors the build embeds; they are indexed once and sent as they are.
 */
#include "core/base/map.h"
#include "ctrl/rpc/rpc_internal.h"

#include "proto/grpc/reflection/v1/reflection.pb.h"
#include "proto/grpc_proto.desc.h"

#define REQUEST(name) grpc_reflection_v1_ServerReflectionRequest_##name
#define RESPONSE(name) grpc_reflection_v1_ServerReflectionResponse_##name
typedef grpc_reflection_v1_ServerReflectionRequest reflection_request;
typedef grpc_reflection_v1_ServerReflectionResponse reflection_response;

/* A serialised FileDescriptorProto, borrowed. */
struct file {
    const uint8_t *data;
    size_t len;
};

/* A custom option or other extension, so that tools can read options of our .proto files. */
struct extension {
    char *extendee; /* "package.Message" */
    int32_t number;
    const struct file *file;
};

/*
 * One per server. Filled before the first call and only read afterwards; everything it points to
 * lies in the descriptors the build embedded, which outlive it.
 */
struct rpc_reflection {
    struct rpc_server *server;
    struct strmap files;   /* name -> struct file, owned */
    struct strmap symbols; /* "package.Type" -> struct file, of files */
    struct extension *extensions;
    size_t extensions_len;
    size_t extensions_cap;
};

/* ---- indexing descriptors -------------------------------------------------------------------- */

/* Field numbers of google/protobuf/descriptor.proto. */
enum {
    SET_FILE = 1,
    FILE_NAME = 1,
    FILE_PACKAGE = 2,
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    FILE_EXTENSION = 7,
    NAME = 1, /* of messages, enums, services and methods */
    MESSAGE_NESTED = 3,
    MESSAGE_ENUM = 4,
    MESSAGE_EXTENSION = 6,
    SERVICE_METHOD = 2,
    FIELD_EXTENDEE = 2,
    FIELD_NUMBER = 3,
};

/* One field of a serialised message: its bytes, or its number. */
struct item {
    uint32_t tag;
    struct reader bytes;
    uint64_t number;
};

static uint64_t read_varint(struct reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = reader_u8(r);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            return value;
        }
    }
    r->failed = true;
    return 0;
}

/* False at the end; r->failed says whether it is a broken one. */
static bool next_item(struct reader *r, struct item *item)
{
    ASSERT(item != NULL);
    if (r->failed || reader_left(r) == 0) {
        return false;
    }
    uint64_t key = read_varint(r);
    *item = (struct item){.tag = (uint32_t)(key >> 3)};
    switch (key & 7) {
    case 0:
        item->number = read_varint(r);
        break;
    case 1:
        reader_u64(r);
        break;
    case 2: {
        size_t len = read_varint(r);
        const void *data = reader_bytes(r, len);
        item->bytes = reader_of(data, data == NULL ? 0 : len);
        break;
    }
    case 5:
        reader_u32(r);
        break;
    default:
        r->failed = true;
    }
    return !r->failed;
}

/* A text field as a new string, NULL when it is not there. */
/* By value: the caller's cursor stays where it is, to be walked again for the next question. */
static char *text_of(struct reader message, uint32_t tag)
{
    ASSERT(tag > 0);
    struct item item;
    while (next_item(&message, &item)) {
        if (item.tag == tag && item.bytes.data != NULL) {
            return mem_strndup((const char *)item.bytes.data, item.bytes.len);
        }
    }
    return NULL;
}

/* "scope.name", or the name alone at the top. */
static char *join(const char *scope, const char *name)
{
    ASSERT(scope != NULL && name != NULL);
    struct buf text = {0};
    buf_printf(&text, "%s%s%s", scope, scope[0] == '\0' ? "" : ".", name);
    char *joined = mem_strdup(buf_cstr(&text));
    buf_free(&text);
    return joined;
}

/* Indexes scope.name of a message, enum, service or method; returns the full name, or NULL. */
static char *add_symbol(struct rpc_reflection *r, const struct file *file, const char *scope,
                        struct reader message)
{
    ASSERT(file != NULL && scope != NULL);
    char *name = text_of(message, NAME);
    if (name == NULL) {
        return NULL;
    }
    char *full = join(scope, name);
    free(name);
    if (strmap_get(&r->symbols, full) == NULL) {
        strmap_put(&r->symbols, full, (void *)(uintptr_t)file);
    }
    return full;
}

/* An extension is found by the message it extends and its number. */
static void add_extension(struct rpc_reflection *r, const struct file *file, struct reader field)
{
    ASSERT(file != NULL);
    char *extendee = text_of(field, FIELD_EXTENDEE); /* ".package.Message" */
    struct item item;
    while (extendee != NULL && next_item(&field, &item)) {
        if (item.tag == FIELD_NUMBER) {
            struct extension *extension = VEC_PUSH(r, extensions);
            extension->extendee = mem_strdup(extendee[0] == '.' ? extendee + 1 : extendee);
            extension->number = (int32_t)item.number;
            extension->file = file;
        }
    }
    free(extendee);
}

/* protoc bounds nesting far below this. */
enum { NESTING_MAX = 64 };

/* A message, what is nested in it, and its extensions. */
static void add_message(struct rpc_reflection *r, const struct file *file, const char *scope,
                        struct reader message, unsigned depth)
{
    char *full = depth < NESTING_MAX ? add_symbol(r, file, scope, message) : NULL;
    struct item item;
    while (full != NULL && next_item(&message, &item)) {
        if (item.tag == MESSAGE_NESTED) {
            add_message(r, file, full, item.bytes, depth + 1);
        } else if (item.tag == MESSAGE_ENUM) {
            free(add_symbol(r, file, full, item.bytes));
        } else if (item.tag == MESSAGE_EXTENSION) {
            add_extension(r, file, item.bytes);
        }
    }
    free(full);
}

/* A service and its methods. */
static void add_service(struct rpc_reflection *r, const struct file *file, const char *scope,
                        struct reader service)
{
    char *full = add_symbol(r, file, scope, service);
    struct item item;
    while (full != NULL && next_item(&service, &item)) {
        if (item.tag == SERVICE_METHOD) {
            free(add_symbol(r, file, full, item.bytes));
        }
    }
    free(full);
}

/* Everything a client may ask for by name, of one file. */
static void add_symbols(struct rpc_reflection *r, const struct file *file)
{
    ASSERT(file->data != NULL);
    struct reader body = reader_of(file->data, file->len);
    char *package = text_of(body, FILE_PACKAGE);
    const char *scope = package == NULL ? "" : package;
    struct item item;
    while (next_item(&body, &item)) {
        switch (item.tag) {
        case FILE_MESSAGE:
            add_message(r, file, scope, item.bytes, 0);
            break;
        case FILE_ENUM:
            free(add_symbol(r, file, scope, item.bytes));
            break;
        case FILE_SERVICE:
            add_service(r, file, scope, item.bytes);
            break;
        case FILE_EXTENSION:
            add_extension(r, file, item.bytes);
            break;
        default:
            break;
        }
    }
    free(package);
}

/*
 * A file that is in several sets (an import) is indexed once: the sets of one build agree about it.
 * What is broken is refused here, at start-up, and not when a tool asks.
 */
err_t rpc_reflection_add(struct rpc_reflection *r, const uint8_t *set, size_t len)
{
    ASSERT(r != NULL && (set != NULL || len == 0));
    struct reader all = reader_of(set, len);
    struct item item;
    while (next_item(&all, &item)) {
        char *name = item.tag == SET_FILE ? text_of(item.bytes, FILE_NAME) : NULL;
        if (name == NULL) {
            return err_new(ERR_INVALID, "a descriptor without a file name");
        }
        if (item.bytes.len > UINT16_MAX) { /* what nanopb's repeated bytes can carry */
            err_t err = err_new(ERR_LIMIT, "%s is too large to be described", name);
            free(name);
            return err;
        }
        if (strmap_get(&r->files, name) == NULL) {
            struct file *file = mem_alloc(sizeof(*file));
            *file = (struct file){.data = item.bytes.data, .len = item.bytes.len};
            strmap_put(&r->files, name, file);
            add_symbols(r, file);
        }
        free(name);
    }
    if (all.failed) {
        return err_new(ERR_INVALID, "malformed file descriptors of %zu bytes", len);
    }
    return ERR_OK;
}

/* ---- answering ------------------------------------------------------------------------------- */

/* Every answer repeats its request, as the protocol has it. */
static void send_response(struct rpc_call *call, const reflection_request *request,
                          reflection_response *response)
{
    ASSERT(request != NULL && response != NULL);
    response->valid_host = request->host;
    response->has_original_request = true;
    response->original_request = *request;
    err_t err =
        rpc_call_send_pb(call, grpc_reflection_v1_ServerReflectionResponse_fields, response);
    if (err != ERR_OK) {
        rpc_call_finish_err(call, err);
    }
}

/* An error of one question; the stream goes on. */
static void send_error(struct rpc_call *call, const reflection_request *request,
                       enum rpc_status status, const char *message)
{
    ASSERT(status != RPC_OK);
    reflection_response response = {.which_message_response = RESPONSE(error_response_tag)};
    response.message_response.error_response.error_code = (int32_t)status;
    response.message_response.error_response.error_message = (char *)(uintptr_t)message;
    send_response(call, request, &response);
}

/* One file; a client that lacks its imports asks for them by name. */
static void send_file(struct rpc_call *call, const reflection_request *request,
                      const struct file *file)
{
    if (file == NULL) {
        send_error(call, request, RPC_NOT_FOUND, "there is no such file, symbol or extension");
        return;
    }
    ASSERT(file->len <= UINT16_MAX); /* a .proto file of ours; see rpc_reflection_add */
    pb_bytes_array_t *bytes = mem_alloc(PB_BYTES_ARRAY_T_ALLOCSIZE(file->len));
    bytes->size = (pb_size_t)file->len;
    memcpy(bytes->bytes, file->data, file->len);
    reflection_response response = {.which_message_response =
                                        RESPONSE(file_descriptor_response_tag)};
    response.message_response.file_descriptor_response.file_descriptor_proto_count = 1;
    response.message_response.file_descriptor_response.file_descriptor_proto = &bytes;
    send_response(call, request, &response);
    free(bytes);
}

/* A walk over all of them: there are a handful, and a person asks. */
static void send_extension(const struct rpc_reflection *r, struct rpc_call *call,
                           const reflection_request *request)
{
    const grpc_reflection_v1_ExtensionRequest *wanted =
        &request->message_request.file_containing_extension;
    const char *type = wanted->containing_type == NULL ? "" : wanted->containing_type;
    const struct file *file = NULL;
    for (size_t i = 0; i < r->extensions_len && file == NULL; i++) {
        if (r->extensions[i].number == wanted->extension_number &&
            strcmp(r->extensions[i].extendee, type) == 0) {
            file = r->extensions[i].file;
        }
    }
    send_file(call, request, file);
}

/* A type that nobody extends has an empty list; one that does not exist is an error. */
static void send_extension_numbers(const struct rpc_reflection *r, struct rpc_call *call,
                                   const reflection_request *request)
{
    char *type = request->message_request.all_extension_numbers_of_type;
    if (strmap_get(&r->symbols, type) == NULL) {
        send_error(call, request, RPC_NOT_FOUND, "there is no such type");
        return;
    }
    reflection_response response = {.which_message_response =
                                        RESPONSE(all_extension_numbers_response_tag)};
    grpc_reflection_v1_ExtensionNumberResponse *numbers =
        &response.message_response.all_extension_numbers_response;
    numbers->base_type_name = type;
    numbers->extension_number = mem_alloc((r->extensions_len + 1) * sizeof(int32_t));
    for (size_t i = 0; i < r->extensions_len; i++) {
        if (strcmp(r->extensions[i].extendee, type) == 0) {
            numbers->extension_number[numbers->extension_number_count++] = r->extensions[i].number;
        }
    }
    send_response(call, request, &response);
    free(numbers->extension_number);
}

static void add_service_name(void *arg, const char *service)
{
    grpc_reflection_v1_ListServiceResponse *list = arg;
    ASSERT(list->service_count < UINT16_MAX);
    list->service =
        mem_realloc(list->service, (list->service_count + 1U) * sizeof(list->service[0]));
    list->service[list->service_count++].name = mem_strdup(service);
}

static void send_services(const struct rpc_reflection *r, struct rpc_call *call,
                          const reflection_request *request)
{
    reflection_response response = {.which_message_response = RESPONSE(list_services_response_tag)};
    grpc_reflection_v1_ListServiceResponse *list =
        &response.message_response.list_services_response;
    rpc_server_each_service(r->server, add_service_name, list);
    send_response(call, request, &response);
    for (pb_size_t i = 0; i < list->service_count; i++) {
        free(list->service[i].name);
    }
    free(list->service);
}

/* One question, one answer, in order. */
static void answer(const struct rpc_reflection *r, struct rpc_call *call,
                   const reflection_request *request)
{
    ASSERT(request != NULL);
    switch (request->which_message_request) {
    case REQUEST(file_by_filename_tag):
        send_file(call, request, strmap_get(&r->files, request->message_request.file_by_filename));
        break;
    case REQUEST(file_containing_symbol_tag):
        send_file(call, request,
                  strmap_get(&r->symbols, request->message_request.file_containing_symbol));
        break;
    case REQUEST(file_containing_extension_tag):
        send_extension(r, call, request);
        break;
    case REQUEST(all_extension_numbers_of_type_tag):
        send_extension_numbers(r, call, request);
        break;
    case REQUEST(list_services_tag):
        send_services(r, call, request);
        break;
    default:
        send_error(call, request, RPC_INVALID_ARGUMENT, "the request asks for nothing");
    }
}

static void on_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    reflection_request request = {0};
    err_t err =
        rpc_decode_pb(grpc_reflection_v1_ServerReflectionRequest_fields, &request, data, len);
    if (err != ERR_OK) {
        rpc_call_finish_err(call, err);
        return;
    }
    answer(arg, call, &request);
    rpc_release_pb(grpc_reflection_v1_ServerReflectionRequest_fields, &request);
    if (rpc_call_choked(call)) {
        rpc_call_pause(call); /* a client that asks without reading waits */
    }
}

static void on_drain(void *arg, struct rpc_call *call)
{
    rpc_call_resume(call);
}

static void on_half_close(void *arg, struct rpc_call *call)
{
    rpc_call_finish(call, RPC_OK, "");
}

static const struct rpc_handler handler = {
    .message = on_message,
    .half_close = on_half_close,
    .drain = on_drain,
};

/* ---- module ---------------------------------------------------------------------------------- */

struct rpc_reflection *rpc_reflection_new(struct rpc_server *server)
{
    struct rpc_reflection *r = MEM_NEW(struct rpc_reflection);
    r->server = server;
    rpc_server_add_method(
        server,
        (struct rpc_method){.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                            .handler = &handler,
                            .arg = r});
    rpc_server_add_method(
        server, (struct rpc_method){
                    .path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                    .handler = &handler,
                    .arg = r});
    err_t err = rpc_reflection_add(r, grpc_proto_descriptors, grpc_proto_descriptors_len);
    ASSERT(err == ERR_OK); /* the build made them */
    return r;
}

void rpc_reflection_free(struct rpc_reflection *r)
{
    ASSERT(r != NULL);
    size_t at = 0;
    const char *name;
    void *file;
    while (strmap_next(&r->files, &at, &name, &file)) {
        free(file);
    }
    strmap_free(&r->files);
    strmap_free(&r->symbols);
    for (size_t i = 0; i < r->extensions_len; i++) {
        free(r->extensions[i].extendee);
    }
    free(r->extensions);
    free(r);
}
