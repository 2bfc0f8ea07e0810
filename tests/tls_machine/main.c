/* src/tpio_tls.c against a system that answers by a script: what Wine cannot do (TLS 1.3, tickets, key updates), and what
 * no network does on demand (every split of every record, every call failing, every allocation failing).
 *
 * The stand-in for Schannel has the shape of TLS and no cryptography: records of five bytes of header, and data that is
 * turned by a key of one byte, with a check sum. It answers as Microsoft's pages say that Schannel does, and as unhelpfully
 * as it may: SECBUFFER_EXTRA has no address, descriptors are changed on every failure, sizes are asked for too much.
 */
#include "tpio_tls.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef NDEBUG

enum { HANDSHAKE = 22, DATA = 23, ALERT = 21, HEADER = 5, TRAILER = 16, CHECK = 1, LARGEST = 50 };

typedef struct fake {
    BOOL server, newer, done, closing, closed, credentials;
    int stage;
    BYTE send_key, receive_key;
} fake;

/* What the scripts say, and what was done. */
static BOOL newer = TRUE;         /* TLS 1.3 */
static BOOL wants_certificate;    /* the server asks for one, once: SEC_I_INCOMPLETE_CREDENTIALS */
static BOOL silent;               /* like Wine: a close is no status of its own */
static int fail_call;             /* the call that fails, counted from 1 */
static SECURITY_STATUS fail_with;
static int calls, contexts, tokens, protocols_given;
static int fail_allocation, allocations;
static BYTE alert_sent;

void InitializeSRWLock(SRWLOCK *lock) { memset(lock, 0, sizeof *lock); }
static int held;
void AcquireSRWLockExclusive(SRWLOCK *lock) { (void)lock; assert(held++ == 0); }
void ReleaseSRWLockExclusive(SRWLOCK *lock) { (void)lock; assert(--held == 0); }

void *test_calloc(size_t count, size_t size) { return ++allocations == fail_allocation ? NULL : calloc(count, size); }
void *test_realloc(void *block, size_t size) { return ++allocations == fail_allocation ? NULL : realloc(block, size); }

/* ---- records ---------------------------------------------------------------------------------------------------- */

typedef struct stream {
    BYTE bytes[4096];
    size_t size;
} stream;

static void put(stream *stream, BYTE type, const void *payload, size_t size)
{
    BYTE *at = stream->bytes + stream->size;

    assert(stream->size + HEADER + size <= sizeof stream->bytes);
    at[0] = type;
    at[1] = at[2] = 3;
    at[3] = (BYTE)(size >> 8);
    at[4] = (BYTE)size;
    if (size != 0)
        memcpy(at + HEADER, payload, size);
    stream->size += HEADER + size;
}

static void put_text(stream *stream, BYTE type, const char *text)
{
    put(stream, type, text, strlen(text));
}

static void put_data(stream *stream, const char *text, BYTE key)
{
    BYTE payload[LARGEST + CHECK], sum = 0;
    size_t size = strlen(text), i;

    assert(size <= LARGEST);
    for (i = 0; i < size; i++) {
        sum = (BYTE)(sum + text[i]);
        payload[i] = (BYTE)text[i] ^ key;
    }
    payload[size] = sum;
    put(stream, DATA, payload, size + CHECK);
}

/* The size of the record that begins here, 0 if it is not complete. */
static size_t record_size(const BYTE *bytes, size_t size)
{
    size_t whole = size >= HEADER ? HEADER + (size_t)(bytes[3] << 8 | bytes[4]) : 0;

    return whole <= size ? whole : 0;
}

/* ---- the stand-in ----------------------------------------------------------------------------------------------- */

static BOOL fails(SECURITY_STATUS *status)
{
    *status = fail_with;
    return ++calls == fail_call;
}

static void give_token(SecBufferDesc *output, const stream *token)
{
    SecBuffer *buffer = &output->pBuffers[0];

    assert(buffer->BufferType == SECBUFFER_TOKEN && buffer->pvBuffer == NULL);
    if (token->size == 0)
        return;
    buffer->pvBuffer = malloc(token->size);
    memcpy(buffer->pvBuffer, token->bytes, token->size);
    buffer->cbBuffer = (ULONG)token->size;
    tokens++;
}

static SECURITY_STATUS incomplete(SecBufferDesc *input)
{
    ULONG i;

    for (i = 0; i < input->cBuffers; i++)
        input->pBuffers[i] = (SecBuffer){1, SECBUFFER_MISSING, NULL};
    return SEC_E_INCOMPLETE_MESSAGE;
}

/* One message of a handshake, which is a letter; P and Q are the halves of one. */
static SECURITY_STATUS take(fake *fake, SecBufferDesc *input, stream *token)
{
    const BYTE *bytes = input->pBuffers[0].pvBuffer;
    size_t size = input->pBuffers[0].cbBuffer, used = record_size(bytes, size);
    SECURITY_STATUS status = SEC_E_OK;

    assert(input->cBuffers >= 2 && input->pBuffers[0].BufferType == SECBUFFER_TOKEN);
    assert(input->pBuffers[1].BufferType == SECBUFFER_EMPTY);
    if (used == 0)
        return incomplete(input);
    if (bytes[0] != HANDSHAKE || used != HEADER + 1)
        return SEC_E_INVALID_TOKEN;
    switch (bytes[HEADER]) {
    case 'A': /* client to server */
        if (!fake->server || fake->stage != 0)
            return SEC_E_INVALID_TOKEN;
        put_text(token, HANDSHAKE, "B");
        put_text(token, HANDSHAKE, "C");
        status = SEC_I_CONTINUE_NEEDED;
        break;
    case 'B':
        if (fake->server || fake->stage != 1)
            return SEC_E_INVALID_TOKEN;
        if (wants_certificate && !fake->credentials) {
            fake->credentials = TRUE;
            return SEC_I_INCOMPLETE_CREDENTIALS;
        }
        status = SEC_I_CONTINUE_NEEDED;
        break;
    case 'C':
        if (fake->server || fake->stage != 2)
            return SEC_E_INVALID_TOKEN;
        put_text(token, HANDSHAKE, "D");
        fake->done = TRUE;
        break;
    case 'D':
        if (!fake->server || fake->stage != 1)
            return SEC_E_INVALID_TOKEN;
        fake->done = TRUE;
        break;
    case 'T': /* a ticket */
        assert(fake->done && fake->newer);
        break;
    case 'U': /* the peer's keys change, and ours are to change too */
        put_text(token, HANDSHAKE, "K");
        fake->send_key++;
        /* fall through */
    case 'K':
        assert(fake->done && fake->newer);
        fake->receive_key++;
        break;
    case 'P': {
        size_t rest = record_size(bytes + used, size - used);

        if (rest == 0)
            return incomplete(input);
        assert(bytes[used + HEADER] == 'Q');
        used += rest;
        break;
    }
    default:
        return SEC_E_INVALID_TOKEN;
    }
    fake->stage++;
    if (used != size)
        input->pBuffers[1] = (SecBuffer){(ULONG)(size - used), SECBUFFER_EXTRA, NULL};
    return status;
}

static SECURITY_STATUS step(BOOL server, CtxtHandle *context, SecBufferDesc *input, CtxtHandle *new_context,
                            SecBufferDesc *output)
{
    fake *fake = context != NULL ? (struct fake *)context->dwLower : NULL;
    stream token = {.size = 0};
    SECURITY_STATUS status;
    BOOL first = fake == NULL;

    if (fails(&status)) {
        put_text(&token, ALERT, "x");
        give_token(output, &token);
        return status;
    }
    if (first && server && record_size(input->pBuffers[0].pvBuffer, input->pBuffers[0].cbBuffer) == 0) {
        protocols_given += input->cBuffers == 3;
        return incomplete(input); /* and no context */
    }
    if (first) {
        fake = calloc(1, sizeof *fake);
        fake->server = server;
        fake->newer = newer;
        fake->send_key = server ? 2 : 1;
        fake->receive_key = server ? 1 : 2;
        contexts++;
        new_context->dwLower = (ULONG_PTR)fake;
        if (server) {
            assert(input->cBuffers == 2 || input->pBuffers[2].BufferType == SECBUFFER_APPLICATION_PROTOCOLS);
            protocols_given += input->cBuffers == 3;
        } else {
            if (input != NULL) {
                assert(input->cBuffers == 1 && input->pBuffers[0].BufferType == SECBUFFER_APPLICATION_PROTOCOLS);
                protocols_given++;
            }
            put_text(&token, HANDSHAKE, "A");
            fake->stage = 1;
            status = SEC_I_CONTINUE_NEEDED;
            goto done;
        }
    }
    if (fake->closing) {
        assert(input == NULL);
        fake->closing = FALSE;
        put(&token, ALERT, &alert_sent, 1);
        status = SEC_E_OK;
    } else {
        status = take(fake, input, &token);
    }
    if (status < 0 && first) { /* no context */
        free(fake);
        contexts--;
        new_context->dwLower = 0;
    }
done:
    give_token(output, &token);
    return status;
}

static SECURITY_STATUS initialize(CredHandle *credentials, CtxtHandle *context, WCHAR *target, ULONG flags, ULONG zero,
                                  ULONG data, SecBufferDesc *input, ULONG reserved, CtxtHandle *new_context,
                                  SecBufferDesc *output, ULONG *attributes, void *expiry)
{
    (void)credentials, (void)zero, (void)data, (void)reserved, (void)attributes, (void)expiry;
    assert(wcscmp(target, L"name") == 0);
    assert(flags & ISC_REQ_MANUAL_CRED_VALIDATION && flags & ISC_REQ_USE_SUPPLIED_CREDS && flags & ISC_REQ_STREAM);
    return step(FALSE, context, input, new_context, output);
}

static SECURITY_STATUS accept_context(CredHandle *credentials, CtxtHandle *context, SecBufferDesc *input, ULONG flags,
                                      ULONG data, CtxtHandle *new_context, SecBufferDesc *output, ULONG *attributes,
                                      void *expiry)
{
    (void)credentials, (void)data, (void)attributes, (void)expiry;
    assert(flags & ASC_REQ_STREAM);
    return step(TRUE, context, input, new_context, output);
}

static SECURITY_STATUS delete(CtxtHandle *context)
{
    contexts--;
    free((fake *)context->dwLower);
    return SEC_E_OK;
}

static SECURITY_STATUS control(CtxtHandle *context, SecBufferDesc *input)
{
    DWORD *token = input->pBuffers[0].pvBuffer;
    SECURITY_STATUS status;

    if (fails(&status))
        return status;
    alert_sent = token[0] == SCHANNEL_SHUTDOWN ? 0 : (BYTE)token[2];
    ((fake *)context->dwLower)->closing = TRUE;
    return SEC_E_OK;
}

static SECURITY_STATUS query(CtxtHandle *context, ULONG attribute, void *value)
{
    fake *fake = (struct fake *)context->dwLower;
    SECURITY_STATUS status;

    if (fails(&status))
        return status;
    assert(fake->done); /* before that there are no sizes */
    if (attribute == SECPKG_ATTR_STREAM_SIZES) {
        *(SecPkgContext_StreamSizes *)value = (SecPkgContext_StreamSizes){HEADER, TRAILER, LARGEST, 4, 1};
        return SEC_E_OK;
    }
    assert(attribute == SECPKG_ATTR_CONNECTION_INFO);
    *(SecPkgContext_ConnectionInfo *)value = (SecPkgContext_ConnectionInfo){
        .dwProtocol = fake->newer ? SP_PROT_TLS1_3_CLIENT : SP_PROT_TLS1_2_CLIENT};
    return SEC_E_OK;
}

static SECURITY_STATUS free_buffer(void *buffer)
{
    assert(buffer != NULL);
    tokens--;
    free(buffer);
    return SEC_E_OK;
}

static SECURITY_STATUS encrypt(CtxtHandle *context, ULONG quality, SecBufferDesc *record, ULONG number)
{
    fake *fake = (struct fake *)context->dwLower;
    SecBuffer *buffers = record->pBuffers;
    BYTE *header = buffers[0].pvBuffer, *data = buffers[1].pvBuffer, *trailer = buffers[2].pvBuffer, sum = 0;
    ULONG size = buffers[1].cbBuffer, i;
    SECURITY_STATUS status;

    (void)quality, (void)number;
    assert(record->cBuffers == 4 && buffers[0].cbBuffer == HEADER && buffers[2].cbBuffer == TRAILER);
    assert(data == header + HEADER && trailer == data + size && size <= LARGEST);
    if (fails(&status))
        return status;
    for (i = 0; i < size; i++) {
        sum = (BYTE)(sum + data[i]);
        data[i] ^= fake->send_key;
    }
    trailer[0] = sum;
    memset(trailer + CHECK, 0xEE, TRAILER - CHECK); /* not to be sent */
    buffers[2].cbBuffer = CHECK;
    memcpy(header, (BYTE[]){DATA, 3, 3, 0, (BYTE)(size + CHECK)}, HEADER);
    return SEC_E_OK;
}

static SECURITY_STATUS decrypt(CtxtHandle *context, SecBufferDesc *record, ULONG number, ULONG *quality)
{
    fake *fake = (struct fake *)context->dwLower;
    SecBuffer *buffers = record->pBuffers;
    BYTE *bytes = buffers[0].pvBuffer, sum = 0;
    size_t size = buffers[0].cbBuffer, used = record_size(bytes, size), data, i;
    SECURITY_STATUS status;

    (void)number, (void)quality;
    assert(record->cBuffers == 4 && buffers[0].BufferType == SECBUFFER_DATA && size != 0);
    for (i = 1; i < 4; i++)
        assert(buffers[i].BufferType == SECBUFFER_EMPTY);
    if (fails(&status))
        return status;
    if (used == 0)
        return incomplete(record);
    if (bytes[0] == HANDSHAKE) { /* to be fed as it is, and whatever follows it */
        buffers[3] = (SecBuffer){(ULONG)size, SECBUFFER_EXTRA, NULL};
        return SEC_I_RENEGOTIATE;
    }
    buffers[0].BufferType = SECBUFFER_STREAM_HEADER;
    if (used != size)
        buffers[3] = (SecBuffer){(ULONG)(size - used), SECBUFFER_EXTRA, NULL};
    if (bytes[0] == ALERT)
        return silent ? SEC_E_OK : SEC_I_CONTEXT_EXPIRED;
    data = used - HEADER - CHECK;
    for (i = 0; i < data; i++) {
        bytes[HEADER + i] ^= fake->receive_key;
        sum = (BYTE)(sum + bytes[HEADER + i]);
    }
    if (bytes[0] != DATA || sum != bytes[HEADER + data])
        return SEC_E_MESSAGE_ALTERED;
    buffers[1] = (SecBuffer){(ULONG)data, SECBUFFER_DATA, bytes + HEADER};
    return SEC_E_OK;
}

static const SecurityFunctionTableW table = {
    .InitializeSecurityContextW = initialize,
    .AcceptSecurityContext = accept_context,
    .DeleteSecurityContext = delete,
    .ApplyControlToken = control,
    .QueryContextAttributesW = query,
    .FreeContextBuffer = free_buffer,
    .EncryptMessage = encrypt,
    .DecryptMessage = decrypt,
};

/* ---- programs --------------------------------------------------------------------------------------------------- */

static tpio_tls *machine(BOOL server, BOOL protocols)
{
    static CredHandle credentials;
    tpio_tls_config config = {.sspi = &table,
                              .credentials = &credentials,
                              .server = server,
                              .target = server ? NULL : L"name",
                              .protocols = protocols ? "protocols" : NULL,
                              .protocols_size = protocols ? 9 : 0,
                              .silent_close = silent};

    return tpio_tls_create(&config);
}

static void start(void)
{
    newer = TRUE;
    wants_certificate = silent = FALSE;
    fail_call = calls = protocols_given = fail_allocation = allocations = 0;
}

static void done(void)
{
    assert(contexts == 0 && tokens == 0 && held == 0);
}

static void sent(tpio_tls *tls, stream *all)
{
    void *output;
    DWORD size = tpio_tls_take_output(tls, &output);

    assert(all->size + size <= sizeof all->bytes);
    if (size != 0)
        memcpy(all->bytes + all->size, output, size);
    all->size += size;
    assert(tpio_tls_take_output(tls, &output) == 0 && tpio_tls_unsent(tls) == 0);
}

/* FALSE: no memory. */
static BOOL feed(tpio_tls *tls, const BYTE *bytes, size_t size)
{
    while (size != 0) {
        void *room;
        DWORD part;

        if (!tpio_tls_room(tls, &room, &part))
            return FALSE;
        assert(part != 0);
        if (part > size)
            part = (DWORD)size;
        memcpy(room, bytes, part);
        tpio_tls_received(tls, part);
        bytes += part;
        size -= part;
    }
    return TRUE;
}

typedef struct outcome {
    tpio_tls_result result;
    stream read, sent;
} outcome;

/* A program that reads to the end, in bits of `bit` bytes. */
static void drive(tpio_tls *tls, outcome *outcome, BOOL *connected, size_t bit)
{
    if (!*connected) {
        outcome->result = tpio_tls_handshake(tls);
        sent(tls, &outcome->sent);
        if (outcome->result != TPIO_TLS_OK)
            return;
        *connected = TRUE;
    }
    do {
        size_t count;

        assert(outcome->read.size + bit <= sizeof outcome->read.bytes);
        outcome->result = tpio_tls_read(tls, outcome->read.bytes + outcome->read.size, bit, &count);
        assert((count != 0) == (outcome->result == TPIO_TLS_OK));
        outcome->read.size += count;
        sent(tls, &outcome->sent);
    } while (outcome->result == TPIO_TLS_OK);
}

/* The peer's bytes arrive in pieces that end at the cuts, and then end. */
static void run(tpio_tls *tls, const stream *peer, size_t cut, size_t cut2, size_t bit, outcome *outcome)
{
    size_t ends[3] = {cut, cut2, peer->size}, at = 0;
    BOOL connected = FALSE;
    int i;

    memset(outcome, 0, sizeof *outcome);
    drive(tls, outcome, &connected, bit);
    for (i = 0; i < 3 && outcome->result == TPIO_TLS_WANT_INPUT; i++) {
        if (ends[i] <= at)
            continue;
        if (!feed(tls, peer->bytes + at, ends[i] - at)) {
            outcome->result = TPIO_TLS_FAILED;
            return;
        }
        at = ends[i];
        drive(tls, outcome, &connected, bit);
    }
    if (outcome->result == TPIO_TLS_WANT_INPUT) {
        tpio_tls_received(tls, 0);
        drive(tls, outcome, &connected, bit);
    }
    assert(outcome->result != TPIO_TLS_WANT_INPUT);
}

static BOOL is(const stream *stream, const char *text)
{
    return stream->size == strlen(text) && memcmp(stream->bytes, text, stream->size) == 0;
}

/* All that a server of TLS 1.3 may send. */
static void newer_server(stream *peer)
{
    peer->size = 0;
    put_text(peer, HANDSHAKE, "B");
    put_text(peer, HANDSHAKE, "C");
    put_text(peer, HANDSHAKE, "T"); /* in the same packet as the end of the handshake */
    put_data(peer, "one ", 2);
    put_text(peer, HANDSHAKE, "T");
    put_text(peer, HANDSHAKE, "T");
    put_data(peer, "", 2); /* which is no end */
    put_data(peer, "two ", 2);
    put_text(peer, HANDSHAKE, "U");
    put_data(peer, "three ", 3);
    put_text(peer, HANDSHAKE, "P");
    put_text(peer, HANDSHAKE, "Q");
    put_text(peer, HANDSHAKE, "K");
    put_data(peer, "four", 4);
    put(peer, ALERT, "\0", 1);
}

static void every_split_of_every_record_gives_the_same_data(void)
{
    stream peer, expected = {.size = 0};
    outcome outcome;
    size_t cut, cut2, bit;

    start();
    newer_server(&peer);
    put_text(&expected, HANDSHAKE, "A");
    put_text(&expected, HANDSHAKE, "D");
    put_text(&expected, HANDSHAKE, "K");
    for (bit = 1; bit <= 64; bit = bit * 4)
        for (cut = 0; cut <= peer.size; cut++)
            for (cut2 = cut; cut2 <= peer.size; cut2++) {
                tpio_tls *tls = machine(FALSE, FALSE);

                run(tls, &peer, cut, cut2, bit, &outcome);
                assert(outcome.result == TPIO_TLS_ENDED && is(&outcome.read, "one two three four"));
                assert(outcome.sent.size == expected.size);
                assert(memcmp(outcome.sent.bytes, expected.bytes, expected.size) == 0);
                tpio_tls_free(tls);
            }
    done();
}

static void bytes_that_come_one_by_one_give_the_same_data(void)
{
    stream peer;
    outcome outcome = {.result = TPIO_TLS_OK};
    BOOL connected = FALSE;
    tpio_tls *tls;
    size_t i;

    start();
    newer_server(&peer);
    tls = machine(FALSE, FALSE);
    drive(tls, &outcome, &connected, 3);
    for (i = 0; i < peer.size; i++) {
        assert(outcome.result == TPIO_TLS_WANT_INPUT && feed(tls, peer.bytes + i, 1));
        drive(tls, &outcome, &connected, 3);
    }
    assert(outcome.result == TPIO_TLS_ENDED && is(&outcome.read, "one two three four"));
    drive(tls, &outcome, &connected, 3);
    assert(outcome.result == TPIO_TLS_ENDED); /* and so on */
    tpio_tls_free(tls);
    done();
}

static void an_end_without_close_notify_is_a_truncation_wherever_it_comes(void)
{
    stream peer;
    outcome outcome;
    size_t end;

    start();
    newer_server(&peer);
    for (end = 0; end < peer.size; end++) {
        stream cut = peer;
        tpio_tls *tls = machine(FALSE, FALSE);

        cut.size = end;
        run(tls, &cut, end / 2, end, 64, &outcome);
        assert(outcome.result == TPIO_TLS_TRUNCATED);
        assert(memcmp(outcome.read.bytes, "one two three four", outcome.read.size) == 0);
        tpio_tls_free(tls);
    }
    done();
}

static void what_comes_after_close_notify_is_not_read(void)
{
    stream peer;
    BYTE rest[64];
    size_t size;
    outcome outcome;
    tpio_tls *tls;

    start();
    newer_server(&peer);
    size = peer.size;
    put_data(&peer, "five", 4);
    tls = machine(FALSE, FALSE);
    run(tls, &peer, 0, 0, 64, &outcome);
    assert(outcome.result == TPIO_TLS_ENDED && is(&outcome.read, "one two three four"));
    assert(tpio_tls_take_undecrypted(tls, rest, sizeof rest) == peer.size - size);
    assert(memcmp(rest, peer.bytes + size, peer.size - size) == 0 && tpio_tls_undecrypted(tls) == 0);
    tpio_tls_free(tls);
    done();
}

/* Flips each byte of each record of data. */
static void a_record_that_was_changed_gives_the_data_before_it_and_then_an_error(void)
{
    stream peer;
    outcome outcome;
    tpio_tls *tls;
    size_t i, first;

    start();
    peer.size = 0;
    put_text(&peer, HANDSHAKE, "B");
    put_text(&peer, HANDSHAKE, "C");
    put_data(&peer, "good", 2);
    first = peer.size;
    put_data(&peer, "evil", 2);
    for (i = first + HEADER; i < peer.size; i++) {
        stream changed = peer;

        changed.bytes[i] ^= 0x40;
        tls = machine(FALSE, FALSE);
        run(tls, &changed, 0, 0, 64, &outcome);
        assert(outcome.result == TPIO_TLS_FAILED && tpio_tls_error(tls) == SEC_E_MESSAGE_ALTERED);
        assert(is(&outcome.read, "good"));
        tpio_tls_free(tls);
    }
    done();
}

static void a_handshake_anew_within_an_older_version_is_refused(void)
{
    stream peer = {.size = 0}, older = {.size = 0};
    outcome outcome;
    tpio_tls *tls;

    start();
    newer = FALSE;
    put_text(&peer, HANDSHAKE, "B");
    put_text(&peer, HANDSHAKE, "C");
    put_data(&peer, "data", 2);
    put_text(&peer, HANDSHAKE, "T");
    tls = machine(FALSE, FALSE);
    run(tls, &peer, 0, 0, 64, &outcome);
    assert(outcome.result == TPIO_TLS_REFUSED && is(&outcome.read, "data"));
    put_text(&older, HANDSHAKE, "A");
    put_text(&older, HANDSHAKE, "D");
    assert(outcome.sent.size == older.size); /* and no answer is made */
    tpio_tls_free(tls);
    done();
}

static void reads_all_of_a_newer_server(void)
{
    stream peer;
    outcome outcome;
    tpio_tls *tls;

    newer_server(&peer);
    tls = machine(FALSE, FALSE);
    run(tls, &peer, 3, 7, 64, &outcome);
    assert(outcome.result == TPIO_TLS_ENDED && is(&outcome.read, "one two three four"));
    tpio_tls_free(tls);
}

static void a_server_that_asks_for_a_certificate_is_told_that_there_is_none(void)
{
    start();
    wants_certificate = TRUE;
    reads_all_of_a_newer_server();
    done();
}

static void a_close_that_the_system_does_not_report_is_guessed(void)
{
    start();
    silent = TRUE;
    reads_all_of_a_newer_server();
    done();
}

/* ---- two machines ----------------------------------------------------------------------------------------------- */

static void pass_on(tpio_tls *from, tpio_tls *to, size_t piece)
{
    stream all = {.size = 0};
    size_t at;

    sent(from, &all);
    for (at = 0; at < all.size; at += piece) {
        assert(feed(to, all.bytes + at, all.size - at < piece ? all.size - at : piece));
        if (tpio_tls_handshake(to) == TPIO_TLS_FAILED)
            return;
    }
}

static void connect_both(tpio_tls *client, tpio_tls *server, size_t piece)
{
    assert(tpio_tls_handshake(client) == TPIO_TLS_WANT_INPUT);
    assert(tpio_tls_handshake(server) == TPIO_TLS_WANT_INPUT);
    pass_on(client, server, piece);
    pass_on(server, client, piece);
    pass_on(client, server, piece);
    assert(tpio_tls_handshake(client) == TPIO_TLS_OK && tpio_tls_handshake(server) == TPIO_TLS_OK);
}

static void a_client_and_a_server_exchange_more_than_a_record_each_way(void)
{
    BYTE data[3 * LARGEST + 7], got[sizeof data + 1];
    size_t i, piece, count, all;

    for (i = 0; i < sizeof data; i++)
        data[i] = (BYTE)(i * 7);
    for (piece = 1; piece < 300; piece += 13) {
        tpio_tls *client, *server, *pair[2];
        int turn;

        start();
        client = machine(FALSE, TRUE);
        server = machine(TRUE, TRUE);
        connect_both(client, server, piece);
        assert(protocols_given >= 2); /* once more for each first call of the server that had too little to go on */
        pair[0] = client;
        pair[1] = server;
        for (turn = 0; turn < 2; turn++) {
            assert(tpio_tls_write(pair[turn], data, sizeof data, &count) == TPIO_TLS_OK && count == sizeof data);
            assert(tpio_tls_write(pair[turn], data, 0, &count) == TPIO_TLS_OK && count == 0);
            pass_on(pair[turn], pair[!turn], piece);
            for (all = 0; all < sizeof data; all += count) {
                tpio_tls_result result = tpio_tls_read(pair[!turn], got + all, piece < 9 ? 9 : sizeof got - all, &count);

                assert(result == TPIO_TLS_OK && count != 0);
            }
            assert(all == sizeof data && memcmp(got, data, all) == 0);
            assert(tpio_tls_read(pair[!turn], got, 1, &count) == TPIO_TLS_WANT_INPUT && count == 0);
            assert(tpio_tls_read(pair[!turn], got, 0, &count) == TPIO_TLS_OK && count == 0);
        }
        assert(tpio_tls_shut(client) == TPIO_TLS_OK);
        pass_on(client, server, piece);
        assert(tpio_tls_read(server, got, 1, &count) == TPIO_TLS_ENDED && count == 0);
        assert(tpio_tls_shut(server) == TPIO_TLS_OK);
        pass_on(server, client, piece);
        assert(tpio_tls_read(client, got, 1, &count) == TPIO_TLS_ENDED && count == 0);
        tpio_tls_free(client);
        tpio_tls_free(server);
        done();
    }
}

static void a_write_takes_at_most_a_batch(void)
{
    size_t size = TPIO_TLS_BATCH + 1000, count;
    BYTE *data = calloc(1, size);
    tpio_tls *client, *server;
    void *output;

    start();
    client = machine(FALSE, FALSE);
    server = machine(TRUE, FALSE);
    connect_both(client, server, 1000);
    assert(tpio_tls_write(client, data, size, &count) == TPIO_TLS_OK);
    assert(count >= TPIO_TLS_BATCH && count < TPIO_TLS_BATCH + LARGEST);
    assert(tpio_tls_take_output(client, &output) > count);
    assert(tpio_tls_write(client, data, 10, &count) == TPIO_TLS_OK && count == 10); /* while that is being sent */
    assert(tpio_tls_take_output(client, &output) == 10 + HEADER + CHECK);
    tpio_tls_free(client);
    tpio_tls_free(server);
    free(data);
    done();
}

static void an_alert_is_put_out(void)
{
    tpio_tls *client, *server;
    stream all = {.size = 0};

    start();
    client = machine(FALSE, FALSE);
    server = machine(TRUE, FALSE);
    connect_both(client, server, 1000);
    assert(tpio_tls_alert(client, 42) == TPIO_TLS_OK);
    sent(client, &all);
    assert(all.size == HEADER + 1 && all.bytes[0] == ALERT && all.bytes[HEADER] == 42);
    tpio_tls_free(client);
    tpio_tls_free(server);
    done();
}

static void nothing_is_read_or_written_before_the_handshake(void)
{
    tpio_tls *tls;
    BYTE byte = 0;
    size_t count;

    start();
    tls = machine(FALSE, FALSE);
    assert(tpio_tls_read(tls, &byte, 1, &count) == TPIO_TLS_FAILED && count == 0);
    tpio_tls_free(tls);
    tls = machine(FALSE, FALSE);
    assert(tpio_tls_write(tls, &byte, 1, &count) == TPIO_TLS_FAILED && count == 0);
    assert(tpio_tls_shut(tls) == TPIO_TLS_FAILED && tpio_tls_unsent(tls) == 0);
    tpio_tls_free(tls);
    done();
}

static void who_does_not_speak_tls_is_not_waited_for(void)
{
    static const char *const said[] = {"GET / HTTP/1.0", "220 mail", "\x16\x02", "\x18\x03"};
    size_t i;

    start();
    for (i = 0; i < sizeof said / sizeof *said; i++) {
        tpio_tls *tls = machine(TRUE, FALSE);

        assert(feed(tls, (const BYTE *)said[i], strlen(said[i])));
        assert(tpio_tls_handshake(tls) == TPIO_TLS_FAILED && tpio_tls_error(tls) == SEC_E_ILLEGAL_MESSAGE);
        tpio_tls_free(tls);
    }
    done();
}

static void a_message_without_an_end_is_not_waited_for_forever(void)
{
    static const BYTE endless[] = {DATA, 3, 3, 0xFF, 0xFF};
    BYTE *filler = calloc(1, 65536);
    tpio_tls *tls;
    size_t count = 0;

    start();
    tls = machine(FALSE, FALSE);
    assert(tpio_tls_handshake(tls) == TPIO_TLS_WANT_INPUT && feed(tls, endless, sizeof endless));
    while (feed(tls, filler, 65536))
        assert(++count <= TPIO_TLS_LARGEST / 65536);
    tpio_tls_free(tls);
    free(filler);
    done();
}

/* ---- everything fails once -------------------------------------------------------------------------------------- */

static void each_call_that_fails_ends_it_and_its_alert_is_sent(void)
{
    stream peer;
    outcome outcome;
    int total, n;

    start();
    newer_server(&peer);
    tpio_tls *tls = machine(FALSE, FALSE);
    run(tls, &peer, 3, 7, 64, &outcome);
    tpio_tls_free(tls);
    total = calls;
    assert(total > 20);
    for (n = 1; n <= total; n++) {
        start();
        fail_call = n;
        fail_with = SEC_E_UNSUPPORTED_FUNCTION;
        tls = machine(FALSE, FALSE);
        run(tls, &peer, 3, 7, 64, &outcome);
        assert(outcome.result == TPIO_TLS_FAILED && tpio_tls_error(tls) == SEC_E_UNSUPPORTED_FUNCTION);
        if (n == 1)
            assert(outcome.sent.size == HEADER + 1 && outcome.sent.bytes[HEADER] == 'x');
        tpio_tls_free(tls);
        done();
    }
}

static void no_memory_is_an_error_and_leaks_nothing(void)
{
    stream peer;
    outcome outcome;
    int total, n;

    start();
    newer_server(&peer);
    tpio_tls *tls = machine(FALSE, TRUE);
    run(tls, &peer, 3, 7, 64, &outcome);
    assert(outcome.result == TPIO_TLS_ENDED);
    tpio_tls_free(tls);
    total = allocations;
    assert(total >= 5);
    for (n = 1; n <= total; n++) {
        start();
        fail_allocation = n;
        tls = machine(FALSE, TRUE);
        if (tls != NULL) {
            run(tls, &peer, 3, 7, 64, &outcome);
            assert(outcome.result == TPIO_TLS_FAILED);
        }
        tpio_tls_free(tls);
        done();
    }
}

int main(void)
{
    every_split_of_every_record_gives_the_same_data();
    bytes_that_come_one_by_one_give_the_same_data();
    an_end_without_close_notify_is_a_truncation_wherever_it_comes();
    what_comes_after_close_notify_is_not_read();
    a_record_that_was_changed_gives_the_data_before_it_and_then_an_error();
    a_handshake_anew_within_an_older_version_is_refused();
    a_server_that_asks_for_a_certificate_is_told_that_there_is_none();
    a_close_that_the_system_does_not_report_is_guessed();
    a_client_and_a_server_exchange_more_than_a_record_each_way();
    a_write_takes_at_most_a_batch();
    an_alert_is_put_out();
    nothing_is_read_or_written_before_the_handshake();
    who_does_not_speak_tls_is_not_waited_for();
    a_message_without_an_end_is_not_waited_for_forever();
    each_call_that_fails_ends_it_and_its_alert_is_sent();
    no_memory_is_an_error_and_leaks_nothing();
    puts("the machine keeps the rules");
    return 0;
}
