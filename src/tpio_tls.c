/* tpio_tls.c: the protocol of Schannel's calls.
 *
 *     handshake   tls__step until the system says that it is done
 *     read        tls__decrypt, record after record; what is no data in them (tickets, key updates) goes to tls__step
 *     write       EncryptMessage, record after record
 *
 * The rules that hold for all of them:
 *   - What a call has not used of its input is reported as SECBUFFER_EXTRA: a length, counted from the end. Its address is
 *     not always set.
 *   - After SEC_E_INCOMPLETE_MESSAGE all of the input is still to be given, with more behind it, and the descriptors have
 *     been changed.
 *   - Tokens are to be sent whatever the status: with a failure they are alerts.
 */
#include "tpio_tls.h"

#include <stdlib.h>
#include <string.h>

#ifdef TPIO_FAULTS
#include "tpio_faults.h"
#endif

#define ROOM_AT_FIRST (20 * 1024) /* a whole record: 5 bytes, 16 KiB and 2 KiB at most */
#define ROOM_AT_MOST (256 * 1024) /* for bytes that come faster than they are asked for */
/* Types of records: their first byte. */
#define CHANGE_CIPHER_SPEC 0x14
#define ALERT 0x15
#define APPLICATION_DATA 0x17

typedef struct block {
    BYTE *bytes;
    size_t size, capacity;
} block;

struct tpio_tls {
    const SecurityFunctionTableW *sspi;
    CredHandle *credentials;
    WCHAR *target;
    void *protocols;
    DWORD protocols_size;
    BOOL server, mutual, silent_close;

    SRWLOCK lock;
    CtxtHandle context;
    BOOL has_context;
    BOOL started;            /* the client's first message is out */
    BOOL open;               /* the handshake is done */
    BOOL has_updates;        /* TLS 1.3: there are messages after it */
    BOOL answering;          /* a message after the handshake is being fed to the system */
    BOOL ended_input;        /* the peer's bytes have ended */
    tpio_tls_result ended;   /* what each further read says */
    SECURITY_STATUS error;
    SecPkgContext_StreamSizes sizes;

    /* The peer's bytes: input.bytes[start .. input.size). Data is decrypted in place, before them. */
    block input;
    size_t start;
    BYTE *plain;
    size_t plain_size;
    size_t room_wanted;

    block output[2];         /* one that is being filled, one that is being sent */
    int filling;
};

/* ---- memory ----------------------------------------------------------------------------------------------------- */

static BOOL block__reserve(block *block, size_t more)
{
    size_t capacity = block->capacity, needed = block->size + more;
    BYTE *bytes;

    if (needed <= capacity)
        return TRUE;
    capacity = capacity * 2 > needed ? capacity * 2 : needed;
    bytes = realloc(block->bytes, capacity);
    if (bytes == NULL)
        return FALSE;
    block->bytes = bytes;
    block->capacity = capacity;
    return TRUE;
}

static BOOL block__append(block *block, const void *bytes, size_t size)
{
    if (!block__reserve(block, size))
        return FALSE;
    memcpy(block->bytes + block->size, bytes, size);
    block->size += size;
    return TRUE;
}

tpio_tls *tpio_tls_create(const tpio_tls_config *config)
{
    tpio_tls *tls = calloc(1, sizeof *tls);

    if (tls == NULL)
        return NULL;
    tls->sspi = config->sspi;
    tls->credentials = config->credentials;
    tls->server = config->server;
    tls->mutual = config->mutual;
    tls->silent_close = config->silent_close;
    tls->room_wanted = ROOM_AT_FIRST;
    InitializeSRWLock(&tls->lock);
    if (config->target != NULL) {
        size_t size = (wcslen(config->target) + 1) * sizeof(WCHAR);

        tls->target = calloc(1, size);
        if (tls->target == NULL)
            goto no_memory;
        memcpy(tls->target, config->target, size);
    }
    if (config->protocols_size != 0) {
        tls->protocols = calloc(1, config->protocols_size);
        if (tls->protocols == NULL)
            goto no_memory;
        memcpy(tls->protocols, config->protocols, config->protocols_size);
        tls->protocols_size = config->protocols_size;
    }
    return tls;

no_memory:
    tpio_tls_free(tls);
    return NULL;
}

void tpio_tls_free(tpio_tls *tls)
{
    if (tls == NULL)
        return;
    if (tls->has_context)
        tls->sspi->DeleteSecurityContext(&tls->context);
    free(tls->input.bytes);
    free(tls->output[0].bytes);
    free(tls->output[1].bytes);
    free(tls->protocols);
    free(tls->target);
    free(tls);
}

/* ---- the peer's bytes ------------------------------------------------------------------------------------------- */

static size_t tls__left(const tpio_tls *tls)
{
    return tls->input.size - tls->start;
}

/* Keeps the last `left` bytes of the input. */
static void tls__use_up(tpio_tls *tls, size_t left)
{
    tls->start = tls->input.size - left;
}

BOOL tpio_tls_room(tpio_tls *tls, void **room, DWORD *size)
{
    block *input = &tls->input;
    BOOL ok = FALSE;

    AcquireSRWLockExclusive(&tls->lock);
    if (tls__left(tls) >= TPIO_TLS_LARGEST)
        goto done;
    if (tls->plain_size == 0 && tls->start != 0) { /* data that has not been read must stay where it is */
        memmove(input->bytes, input->bytes + tls->start, tls__left(tls));
        input->size -= tls->start;
        tls->start = 0;
    }
    if (input->capacity - input->size < tls->room_wanted / 2) {
        BYTE *before = input->bytes;
        size_t offset = tls->plain_size != 0 ? (size_t)(tls->plain - before) : 0;

        if (!block__reserve(input, tls->room_wanted))
            goto done;
        if (tls->plain_size != 0)
            tls->plain = input->bytes + offset;
    }
    *room = input->bytes + input->size;
    *size = (DWORD)(input->capacity - input->size);
    ok = TRUE;
done:
    ReleaseSRWLockExclusive(&tls->lock);
    return ok;
}

void tpio_tls_received(tpio_tls *tls, DWORD count)
{
    AcquireSRWLockExclusive(&tls->lock);
    tls->input.size += count;
    if (count == 0)
        tls->ended_input = TRUE;
    else if (tls->input.size == tls->input.capacity && tls->room_wanted < ROOM_AT_MOST)
        tls->room_wanted *= 2; /* there was more than fits */
    ReleaseSRWLockExclusive(&tls->lock);
}

/* There is not enough: will there be more? */
static tpio_tls_result tls__need_input(tpio_tls *tls)
{
    return tls->ended_input ? TPIO_TLS_TRUNCATED : TPIO_TLS_WANT_INPUT;
}

static tpio_tls_result tls__fail(tpio_tls *tls, SECURITY_STATUS error)
{
    tls->error = error;
    return TPIO_TLS_FAILED;
}

/* ---- messages that are not data --------------------------------------------------------------------------------- */

/* One call of InitializeSecurityContext or AcceptSecurityContext. Puts its token out. */
static SECURITY_STATUS tls__call(tpio_tls *tls, SecBufferDesc *input)
{
    /* Without a buffer of its own for alerts they come as tokens, which is how they are sent. */
    SecBuffer tokens[1] = {{0, SECBUFFER_TOKEN, NULL}};
    SecBufferDesc output = {SECBUFFER_VERSION, 1, tokens};
    CtxtHandle *context = tls->has_context ? &tls->context : NULL;
    ULONG attributes = 0;
    SECURITY_STATUS status;
    BOOL kept = TRUE;

    if (tls->server) {
        ULONG flags = ASC_REQ_SEQUENCE_DETECT | ASC_REQ_REPLAY_DETECT | ASC_REQ_CONFIDENTIALITY |
                      ASC_REQ_ALLOCATE_MEMORY | ASC_REQ_STREAM | ASC_REQ_EXTENDED_ERROR;

        if (tls->mutual)
            flags |= ASC_REQ_MUTUAL_AUTH;
        status = tls->sspi->AcceptSecurityContext(tls->credentials, context, input, flags, 0, &tls->context, &output,
                                                  &attributes, NULL);
    } else {
        ULONG flags = ISC_REQ_SEQUENCE_DETECT | ISC_REQ_REPLAY_DETECT | ISC_REQ_CONFIDENTIALITY |
                      ISC_REQ_ALLOCATE_MEMORY | ISC_REQ_STREAM | ISC_REQ_EXTENDED_ERROR | ISC_REQ_USE_SUPPLIED_CREDS |
                      ISC_REQ_MANUAL_CRED_VALIDATION;

        status = tls->sspi->InitializeSecurityContextW(tls->credentials, context, tls->target, flags, 0, 0, input, 0,
                                                       &tls->context, &output, &attributes, NULL);
    }
    if (status >= 0)
        tls->has_context = TRUE; /* a first call that fails, or has too little to go on, makes none */
    if (tokens[0].pvBuffer != NULL) {
        kept = block__append(&tls->output[tls->filling], tokens[0].pvBuffer, tokens[0].cbBuffer);
        tls->sspi->FreeContextBuffer(tokens[0].pvBuffer);
    }
    return kept ? status : SEC_E_INSUFFICIENT_MEMORY;
}

/* Gives the system all of the peer's bytes that are here, and keeps what it has not used. */
static SECURITY_STATUS tls__step(tpio_tls *tls)
{
    size_t left = tls__left(tls);
    SecBuffer buffers[3] = {
        {(ULONG)left, SECBUFFER_TOKEN, left != 0 ? tls->input.bytes + tls->start : NULL},
        {0, SECBUFFER_EMPTY, NULL},
        {tls->protocols_size, SECBUFFER_APPLICATION_PROTOCOLS, tls->protocols},
    };
    SecBufferDesc input = {SECBUFFER_VERSION, 2, buffers};
    SecBufferDesc *given = &input;
    SECURITY_STATUS status;
    size_t extra = 0;
    int i;

    if (!tls->has_context && tls->protocols_size != 0)
        input.cBuffers = 3; /* with each first call: one with too little to go on is forgotten */
    if (!tls->server && !tls->has_context) {
        /* The client begins: there is nothing of the peer yet. */
        input.pBuffers = &buffers[2];
        input.cBuffers = 1;
        if (tls->protocols_size == 0)
            given = NULL;
        return tls__call(tls, given);
    }
    status = tls__call(tls, given);
    if (status == SEC_E_INCOMPLETE_MESSAGE || status == SEC_I_INCOMPLETE_CREDENTIALS)
        return status;
    for (i = 1; i < (int)input.cBuffers; i++)
        if (buffers[i].BufferType == SECBUFFER_EXTRA && buffers[i].cbBuffer <= left)
            extra = buffers[i].cbBuffer;
    tls__use_up(tls, extra);
    return status;
}

/* Does what is here begin like a record? What somebody says who does not speak TLS would be waited for as a part of one. */
static BOOL tls__is_record(const tpio_tls *tls)
{
    const BYTE *bytes = tls->input.bytes + tls->start;

    return bytes[0] >= CHANGE_CIPHER_SPEC && bytes[0] <= APPLICATION_DATA && (tls__left(tls) == 1 || bytes[1] == 3);
}

static tpio_tls_result tls__handshake(tpio_tls *tls)
{
    SecPkgContext_ConnectionInfo info;
    BOOL asked_again = FALSE;

    while (!tls->open) {
        SECURITY_STATUS status;
        size_t before = tls__left(tls);

        if (tls->error != SEC_E_OK)
            return TPIO_TLS_FAILED;
        if (before == 0 && (tls->started || tls->server))
            return tls__need_input(tls);
        if (before != 0 && !tls__is_record(tls))
            return tls__fail(tls, SEC_E_ILLEGAL_MESSAGE);
        status = tls__step(tls);
        switch (status) {
        case SEC_E_OK:
            /* Not before: the sizes depend on what was agreed on. */
            status = tls->sspi->QueryContextAttributesW(&tls->context, SECPKG_ATTR_STREAM_SIZES, &tls->sizes);
            if (status != SEC_E_OK)
                return tls__fail(tls, status);
            if (tls->sizes.cbMaximumMessage == 0)
                return tls__fail(tls, SEC_E_INTERNAL_ERROR);
            status = tls->sspi->QueryContextAttributesW(&tls->context, SECPKG_ATTR_CONNECTION_INFO, &info);
            if (status != SEC_E_OK)
                return tls__fail(tls, status);
            tls->has_updates = (info.dwProtocol & (SP_PROT_TLS1_3_CLIENT | SP_PROT_TLS1_3_SERVER)) != 0;
            tls->open = TRUE;
            break;
        case SEC_I_CONTINUE_NEEDED:
            if (tls->started && tls__left(tls) == before)
                return tls__need_input(tls);
            break;
        case SEC_E_INCOMPLETE_MESSAGE:
            return tls__need_input(tls);
        case SEC_I_INCOMPLETE_CREDENTIALS:
            /* The server asks for a certificate and there is none: the second time the system goes on without. */
            if (asked_again)
                return tls__fail(tls, SEC_E_NO_CREDENTIALS);
            asked_again = TRUE;
            break;
        default:
            return tls__fail(tls, status);
        }
        tls->started = TRUE;
    }
    return TPIO_TLS_OK;
}

tpio_tls_result tpio_tls_handshake(tpio_tls *tls)
{
    tpio_tls_result result;

    AcquireSRWLockExclusive(&tls->lock);
    result = tls__handshake(tls);
    ReleaseSRWLockExclusive(&tls->lock);
    return result;
}

/* A message after the handshake: TLS 1.3's tickets and key updates, which the peer may send at any time. */
static tpio_tls_result tls__answer(tpio_tls *tls)
{
    SECURITY_STATUS status = tls__step(tls);

    switch (status) {
    case SEC_E_INCOMPLETE_MESSAGE:
        return tls__need_input(tls);
    case SEC_E_OK: /* without a token, mostly */
    case SEC_I_CONTINUE_NEEDED:
        tls->answering = FALSE;
        return TPIO_TLS_OK;
    default:
        return tls__fail(tls, status);
    }
}

/* ---- data ------------------------------------------------------------------------------------------------------- */

/* One record. */
static tpio_tls_result tls__decrypt(tpio_tls *tls)
{
    size_t left = tls__left(tls), extra = 0;
    SecBuffer buffers[4] = {
        {(ULONG)left, SECBUFFER_DATA, NULL},
        {0, SECBUFFER_EMPTY, NULL},
        {0, SECBUFFER_EMPTY, NULL},
        {0, SECBUFFER_EMPTY, NULL},
    };
    SecBufferDesc record = {SECBUFFER_VERSION, 4, buffers};
    SECURITY_STATUS status;
    BOOL alert;
    int i;

    if (left == 0)
        return tls__need_input(tls);
    buffers[0].pvBuffer = tls->input.bytes + tls->start;
    alert = tls->input.bytes[tls->start] == ALERT; /* before it is decrypted, in place */
    status = tls->sspi->DecryptMessage(&tls->context, &record, 0, NULL);
    if (status == SEC_E_INCOMPLETE_MESSAGE)
        return tls__need_input(tls);
    if (status != SEC_E_OK && status != SEC_I_CONTEXT_EXPIRED && status != SEC_I_RENEGOTIATE)
        return tls__fail(tls, status);
    for (i = 0; i < 4; i++) {
        if (buffers[i].BufferType == SECBUFFER_DATA && status == SEC_E_OK) { /* else it is as it was given */
            tls->plain = buffers[i].pvBuffer;
            tls->plain_size = buffers[i].cbBuffer;
        } else if (buffers[i].BufferType == SECBUFFER_EXTRA && buffers[i].cbBuffer <= left) {
            extra = buffers[i].cbBuffer;
        }
    }
    tls__use_up(tls, extra);
    if (status == SEC_I_CONTEXT_EXPIRED)
        return TPIO_TLS_ENDED;
    if (status == SEC_I_RENEGOTIATE) {
        /* Within TLS 1.2 it is a handshake anew, in which the peer could become another one. */
        if (!tls->has_updates)
            return TPIO_TLS_REFUSED;
        tls->answering = TRUE;
    } else if (tls->silent_close && alert && tls->plain_size == 0) {
        return TPIO_TLS_ENDED;
    }
    return TPIO_TLS_OK; /* also without any data: that is no end */
}

tpio_tls_result tpio_tls_read(tpio_tls *tls, void *buffer, size_t size, size_t *count)
{
    size_t got = 0;

    AcquireSRWLockExclusive(&tls->lock);
    if (!tls->open && tls->ended == TPIO_TLS_OK)
        tls->ended = tls__fail(tls, SEC_E_INVALID_HANDLE);
    while (got < size) {
        tpio_tls_result result;

        if (tls->plain_size != 0) {
            size_t part = tls->plain_size < size - got ? tls->plain_size : size - got;

            memcpy((BYTE *)buffer + got, tls->plain, part);
            tls->plain += part;
            tls->plain_size -= part;
            got += part;
            continue;
        }
        if (tls->ended != TPIO_TLS_OK)
            break;
        result = tls->answering ? tls__answer(tls) : tls__decrypt(tls);
        if (result == TPIO_TLS_WANT_INPUT) {
            ReleaseSRWLockExclusive(&tls->lock);
            *count = got;
            return got != 0 ? TPIO_TLS_OK : TPIO_TLS_WANT_INPUT;
        }
        tls->ended = result;
    }
    *count = got;
    ReleaseSRWLockExclusive(&tls->lock);
    return got != 0 || size == 0 ? TPIO_TLS_OK : tls->ended;
}

/* One record of at most the size that was agreed on. Its parts may come out smaller than was said before. */
static SECURITY_STATUS tls__encrypt(tpio_tls *tls, const void *data, size_t size)
{
    block *output = &tls->output[tls->filling];
    const SecPkgContext_StreamSizes *sizes = &tls->sizes;
    SecBuffer buffers[4] = {
        {sizes->cbHeader, SECBUFFER_STREAM_HEADER, NULL},
        {(ULONG)size, SECBUFFER_DATA, NULL},
        {sizes->cbTrailer, SECBUFFER_STREAM_TRAILER, NULL},
        {0, SECBUFFER_EMPTY, NULL},
    };
    SecBufferDesc record = {SECBUFFER_VERSION, 4, buffers};
    SECURITY_STATUS status;
    BYTE *place;
    int i;

    if (!block__reserve(output, (size_t)sizes->cbHeader + size + sizes->cbTrailer))
        return SEC_E_INSUFFICIENT_MEMORY;
    place = output->bytes + output->size;
    buffers[0].pvBuffer = place;
    buffers[1].pvBuffer = place + sizes->cbHeader;
    buffers[2].pvBuffer = place + sizes->cbHeader + size;
    memcpy(buffers[1].pvBuffer, data, size);
    status = tls->sspi->EncryptMessage(&tls->context, 0, &record, 0);
    if (status != SEC_E_OK)
        return status;
    for (i = 0; i < 3; i++) {
        if (buffers[i].pvBuffer != place)
            memmove(place, buffers[i].pvBuffer, buffers[i].cbBuffer);
        place += buffers[i].cbBuffer;
    }
    output->size = (size_t)(place - output->bytes);
    return SEC_E_OK;
}

tpio_tls_result tpio_tls_write(tpio_tls *tls, const void *data, size_t size, size_t *count)
{
    SECURITY_STATUS status = SEC_E_OK;
    size_t done = 0;

    AcquireSRWLockExclusive(&tls->lock);
    if (!tls->open)
        status = SEC_E_INVALID_HANDLE;
    while (status == SEC_E_OK && done < size && done < TPIO_TLS_BATCH) {
        size_t part = size - done < tls->sizes.cbMaximumMessage ? size - done : tls->sizes.cbMaximumMessage;

        status = tls__encrypt(tls, (const BYTE *)data + done, part);
        if (status == SEC_E_OK)
            done += part;
    }
    *count = done;
    if (status != SEC_E_OK)
        tls->error = status;
    ReleaseSRWLockExclusive(&tls->lock);
    return status == SEC_E_OK ? TPIO_TLS_OK : TPIO_TLS_FAILED;
}

static tpio_tls_result tls__control(tpio_tls *tls, void *token, ULONG size)
{
    SecBuffer buffer = {size, SECBUFFER_TOKEN, token};
    SecBufferDesc control = {SECBUFFER_VERSION, 1, &buffer};
    SECURITY_STATUS status = SEC_E_INVALID_HANDLE;

    AcquireSRWLockExclusive(&tls->lock);
    if (tls->has_context)
        status = tls->sspi->ApplyControlToken(&tls->context, &control);
    if (status >= 0)
        status = tls__call(tls, NULL); /* puts the alert out */
    if (status < 0)
        tls->error = status;
    ReleaseSRWLockExclusive(&tls->lock);
    return status < 0 ? TPIO_TLS_FAILED : TPIO_TLS_OK;
}

tpio_tls_result tpio_tls_shut(tpio_tls *tls)
{
    DWORD token = SCHANNEL_SHUTDOWN;

    return tls__control(tls, &token, sizeof token);
}

tpio_tls_result tpio_tls_alert(tpio_tls *tls, DWORD number)
{
    DWORD token[] = {SCHANNEL_ALERT, TLS1_ALERT_FATAL, 0}; /* SCHANNEL_ALERT_TOKEN */

    token[2] = number;
    return tls__control(tls, token, sizeof token);
}

DWORD tpio_tls_take_output(tpio_tls *tls, void **output)
{
    block *full;

    AcquireSRWLockExclusive(&tls->lock);
    full = &tls->output[tls->filling];
    if (full->size != 0) {
        tls->filling = !tls->filling;
        tls->output[tls->filling].size = 0;
    }
    *output = full->bytes;
    ReleaseSRWLockExclusive(&tls->lock);
    return (DWORD)full->size;
}

size_t tpio_tls_take_undecrypted(tpio_tls *tls, void *buffer, size_t size)
{
    size_t left;

    AcquireSRWLockExclusive(&tls->lock);
    left = tls__left(tls);
    if (size > left)
        size = left;
    memcpy(buffer, tls->input.bytes + tls->start, size);
    tls->start += size;
    ReleaseSRWLockExclusive(&tls->lock);
    return size;
}

size_t tpio_tls_unread(tpio_tls *tls)
{
    return tls->plain_size;
}

size_t tpio_tls_undecrypted(tpio_tls *tls)
{
    return tls__left(tls);
}

size_t tpio_tls_unsent(tpio_tls *tls)
{
    size_t size;

    AcquireSRWLockExclusive(&tls->lock);
    size = tls->output[tls->filling].size;
    ReleaseSRWLockExclusive(&tls->lock);
    return size;
}

SECURITY_STATUS tpio_tls_error(const tpio_tls *tls)
{
    return tls->error;
}

SECURITY_STATUS tpio_tls_query(tpio_tls *tls, ULONG attribute, void *value)
{
    SECURITY_STATUS status = SEC_E_INVALID_HANDLE;

    AcquireSRWLockExclusive(&tls->lock);
    if (tls->has_context)
        status = tls->sspi->QueryContextAttributesW(&tls->context, attribute, value);
    ReleaseSRWLockExclusive(&tls->lock);
    return status;
}
