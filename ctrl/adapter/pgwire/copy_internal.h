/* Private to COPY's formats: what copy.c (text, CSV) and copy_binary.c share. */
#ifndef TAILRACE_CTRL_ADAPTER_PGWIRE_COPY_INTERNAL_H
#define TAILRACE_CTRL_ADAPTER_PGWIRE_COPY_INTERNAL_H

#include "ctrl/adapter/pgwire/copy.h"

/* Takes the records that are complete in r->pending; the rest stays there. */
err_t copy_binary_take(struct copy_reader *r);
/* No more data will come: whether what came is whole. */
err_t copy_binary_end(struct copy_reader *r);

#endif
