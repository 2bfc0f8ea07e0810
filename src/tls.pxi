# TLS: Python objects around the machine (tpio_tls.c) and what it needs of the system (tpio_tls_system.c). No I/O is done
# here: see tpio/tls.py.

cdef extern from "tpio_tls_system.h" nogil:
    """
    /* What ends a connection that has shown a certificate which is not good; https://datatracker.ietf.org/doc/html/rfc8446 */
    static DWORD tpio_alert_for(DWORD trust)
    {
        return trust & CERT_TRUST_IS_NOT_TIME_VALID ? 45
               : trust & CERT_TRUST_IS_REVOKED ? 44
               : trust & (CERT_TRUST_IS_UNTRUSTED_ROOT | CERT_TRUST_IS_PARTIAL_CHAIN) ? 48
                                                                                     : 42;
    }
    """
    ctypedef struct tpio_tls:
        pass
    ctypedef struct SecurityFunctionTableW:
        pass
    ctypedef struct CredHandle:
        pass
    ctypedef void *HCERTSTORE
    ctypedef struct CERT_CONTEXT:
        unsigned char *pbCertEncoded
        DWORD cbCertEncoded
    ctypedef const CERT_CONTEXT *PCCERT_CONTEXT
    ctypedef enum tpio_tls_result:
        TPIO_TLS_OK
        TPIO_TLS_WANT_INPUT
        TPIO_TLS_ENDED
        TPIO_TLS_TRUNCATED
        TPIO_TLS_REFUSED
        TPIO_TLS_FAILED
    ctypedef enum tpio_tls_revocation:
        pass
    ctypedef struct tpio_tls_config:
        const SecurityFunctionTableW *sspi
        CredHandle *credentials
        bint server
        bint mutual
        const WCHAR *target
        const void *protocols
        DWORD protocols_size
        bint silent_close
    ctypedef struct tpio_tls_verification:
        HCERTSTORE roots
        bint server
        const WCHAR *name
        const unsigned char *address
        DWORD address_size
        tpio_tls_revocation revocation
        bint offline
        DWORD trust
        DWORD policy
        bint other_address
    enum:
        TPIO_TLS_LARGEST
        SECPKG_ATTR_UNIQUE_BINDINGS
        SECPKG_ATTR_ENDPOINT_BINDINGS
    const long SEC_E_ILLEGAL_MESSAGE
    const long SEC_E_INSUFFICIENT_MEMORY
    DWORD tpio_alert_for(DWORD trust)
    bint tpio_tls_close_is_silent()
    const SecurityFunctionTableW *tpio_tls_sspi(DWORD *error)
    tpio_tls *tpio_tls_create(const tpio_tls_config *config)
    void tpio_tls_free(tpio_tls *tls)
    bint tpio_tls_room(tpio_tls *tls, void **room, DWORD *size)
    void tpio_tls_received(tpio_tls *tls, DWORD count)
    tpio_tls_result tpio_tls_handshake(tpio_tls *tls)
    tpio_tls_result tpio_tls_read(tpio_tls *tls, void *buffer, size_t size, size_t *count)
    tpio_tls_result tpio_tls_write(tpio_tls *tls, const void *plain, size_t size, size_t *count)
    tpio_tls_result tpio_tls_shut(tpio_tls *tls)
    tpio_tls_result tpio_tls_alert(tpio_tls *tls, DWORD number)
    DWORD tpio_tls_take_output(tpio_tls *tls, void **output)
    size_t tpio_tls_unread(tpio_tls *tls)
    size_t tpio_tls_undecrypted(tpio_tls *tls)
    size_t tpio_tls_unsent(tpio_tls *tls)
    size_t tpio_tls_take_undecrypted(tpio_tls *tls, void *buffer, size_t size)
    long tpio_tls_error(const tpio_tls *tls)
    DWORD tpio_tls_store_create(HCERTSTORE *store)
    DWORD tpio_tls_store_add(HCERTSTORE store, const void *der, DWORD size)
    void tpio_tls_store_close(HCERTSTORE store)
    DWORD tpio_tls_store_import(const void *pfx, DWORD size, const WCHAR *password, HCERTSTORE *store,
                                PCCERT_CONTEXT *certificate)
    void tpio_tls_store_delete_keys(HCERTSTORE store)
    DWORD tpio_tls_store_find(const WCHAR *name, bint machine, const unsigned char *thumbprint, const WCHAR *subject,
                              HCERTSTORE *store, PCCERT_CONTEXT *certificate)
    void tpio_tls_certificate_free(PCCERT_CONTEXT certificate)
    long tpio_tls_credentials_acquire(bint server, DWORD protocols, bint newest, PCCERT_CONTEXT certificate,
                                      CredHandle *credentials)
    void tpio_tls_credentials_free(CredHandle *credentials)
    DWORD tpio_tls_verify(PCCERT_CONTEXT certificate, tpio_tls_verification *verification)
    DWORD tpio_tls_protocol(tpio_tls *tls)
    DWORD tpio_tls_cipher(tpio_tls *tls, WCHAR *name)
    DWORD tpio_tls_application_protocol(tpio_tls *tls, unsigned char *id)
    PCCERT_CONTEXT tpio_tls_peer(tpio_tls *tls)
    DWORD tpio_tls_binding(tpio_tls *tls, unsigned long attribute, unsigned char *binding, DWORD size)


class TLSError(OSError):
    """TLS has failed. `winerror` is the system's status (SEC_E_*), a negative number; 0 when it is not the system that says so.

    https://learn.microsoft.com/windows/win32/secauthn/sspi-status-codes
    """


class TLSTruncatedError(TLSError):
    """The connection has ended without the peer's close_notify: data may be missing, cut off by somebody in between."""


class CertificateVerificationError(TLSError, ValueError):
    """The peer's certificate is not good. `reasons`: a tuple of str, which say why. `trust_status`: CERT_TRUST_* of the
    chain. `policy_status`: what the system's policy for TLS says. `winerror` is one of them as CERT_E_*.

    https://learn.microsoft.com/windows/win32/api/wincrypt/ns-wincrypt-cert_trust_status
    """

    reasons = ()
    trust_status = policy_status = 0

    @property
    def verify_message(self):
        """As ssl.SSLCertVerificationError has it."""
        return ", ".join(self.reasons)


# (bit of the trust status, what it says, the policy's code for the same)
cdef tuple _TRUST = (
    (0x00000004, "revoked", 0x800B010C),
    (0x04000000, "explicitly distrusted", 0x800B0111),
    (0x00000001, "expired or not yet valid", 0x800B0101),
    (0x00000020, "untrusted root", 0x800B0109),
    (0x00010000, "no chain to a trusted root", 0x800B010A),
    (0x00000008, "signature not valid", 0x80096004),
    (0x00100000, "weak signature", 0x80096004),
    (0x00000010, "not for this use", 0x800B0110),
    (0x00000400, "issuer is not an authority", 0x80096019),
    (0x00000100, "extension not valid", 0x800B0113),
    (0x00000200, "policy constraints", 0x800B0113),
    (0x0000F800, "name constraints", 0x800B0114),
    (0x00000080, "cyclic chain", 0x800B010A),
    (0x01000040, "revocation could not be checked", 0x80092013),
)
cdef dict _POLICY = {
    0x800B0101: "expired or not yet valid",
    0x800B0109: "untrusted root",
    0x800B010A: "no chain to a trusted root",
    0x800B010C: "revoked",
    0x800B010E: "revocation could not be checked",
    0x800B010F: "wrong name",
    0x800B0110: "not for this use",
    0x80092012: "revocation could not be checked",
    0x80092013: "revocation could not be checked",
}


cdef long signed_status(unsigned long code) noexcept:
    return <long>code


cdef object tls_error(long code, object what, kind=TLSError):
    """The exception for a SECURITY_STATUS, HRESULT or Win32 error."""
    return kind(0, f"{what}: {_format(code)} ({<unsigned long>code:#010x})", None, code)


cdef object tls_failure(tpio_tls_result result, long code):
    if result == TPIO_TLS_TRUNCATED:
        return TLSTruncatedError(0, "the connection ended without the peer's close_notify", None, 0)
    if result == TPIO_TLS_REFUSED:
        return TLSError(0, "the peer asks for a new handshake, which is refused within TLS 1.2", None, 0)
    if code == SEC_E_INSUFFICIENT_MEMORY:
        return MemoryError("no memory for TLS")
    return tls_error(code, "TLS failed")


cdef object verification_error(tpio_tls_verification *found, unsigned long code):
    cdef list reasons = []
    for bits, reason, policy in _TRUST:
        if found.trust & bits:
            reasons.append(reason)
            code = code or policy
    if found.trust and not reasons:
        reasons.append(f"trust status {found.trust:#x}")
    if found.policy:
        code = found.policy
        reason = _POLICY.get(found.policy) or _format(signed_status(found.policy))
        if reason not in reasons:
            reasons.append(reason)
    if found.other_address:
        reasons.append("wrong IP address")
        code = code or 0x800B010F
    if not reasons:
        reasons.append(_format(signed_status(code)))
    error = CertificateVerificationError(0, f"the peer's certificate is not good: {', '.join(reasons)}", None,
                                         signed_status(code))
    error.reasons = tuple(reasons)
    error.trust_status = found.trust
    error.policy_status = found.policy
    return error


cdef class TLSRoots:
    """Certificates, each DER, that are the only ones trusted."""

    cdef HCERTSTORE store

    def __init__(self, ders):
        cdef DWORD error
        cdef bytes der
        if self.store != NULL:
            raise RuntimeError("it is initialized once")
        error = tpio_tls_store_create(&self.store)
        if error != 0:
            raise tls_error(error, "no certificate store")
        for der in ders:
            error = tpio_tls_store_add(self.store, PyBytes_AS_STRING(der), <DWORD>len(der))
            if error != 0:
                raise tls_error(error, "that is no certificate")

    def __dealloc__(self):
        if self.store != NULL:
            tpio_tls_store_close(self.store)


cdef class TLSIdentity:
    """A certificate with its key. Those of a PFX are in files of the user's as long as this exists, or until delete_keys()."""

    cdef HCERTSTORE store
    cdef PCCERT_CONTEXT certificate
    cdef bint imported
    cdef object __weakref__

    @staticmethod
    def from_pfx(bytes pfx, password):
        cdef TLSIdentity self = TLSIdentity()
        cdef Wide secret = Wide(password)
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(pfx)
        cdef DWORD size = <DWORD>len(pfx), error
        with nogil:
            error = tpio_tls_store_import(data, size, secret.text, &self.store, &self.certificate)
        if error != 0:
            raise tls_error(error, "the PFX cannot be imported: is the password right, and is there a certificate with a "
                                   "key of a kind that the system has?")
        self.imported = True
        return self

    @staticmethod
    def from_store(name, bint machine, bytes thumbprint, subject):
        cdef TLSIdentity self = TLSIdentity()
        cdef Wide store = Wide(name), wanted = Wide(subject or "")
        cdef const unsigned char *hash = NULL
        cdef DWORD error
        if thumbprint is not None:
            hash = <const unsigned char *>PyBytes_AS_STRING(thumbprint)
        with nogil:
            error = tpio_tls_store_find(store.text, machine, hash, wanted.text, &self.store, &self.certificate)
        if error != 0:
            raise tls_error(error, f"no such certificate with a key in {name!r}")
        return self

    @property
    def der(self):
        return PyBytes_FromStringAndSize(<char *>self.certificate.pbCertEncoded, self.certificate.cbCertEncoded)

    def delete_keys(self):
        if self.imported:
            self.imported = False
            with nogil:
                tpio_tls_store_delete_keys(self.store)

    def __dealloc__(self):
        if self.imported:
            tpio_tls_store_delete_keys(self.store)
        if self.certificate != NULL:
            tpio_tls_certificate_free(self.certificate)
        if self.store != NULL:
            tpio_tls_store_close(self.store)


cdef class TLSCredentials:
    """What a client or server shows, and the versions that it speaks."""

    cdef CredHandle handle
    cdef bint acquired
    cdef bint server
    cdef TLSIdentity identity

    def __init__(self, bint server, DWORD protocols, bint newest, TLSIdentity identity):
        cdef PCCERT_CONTEXT certificate = NULL
        cdef long status
        if self.acquired:
            raise RuntimeError("it is initialized once")
        self.server = server
        self.identity = identity
        if identity is not None:
            certificate = identity.certificate
        with nogil:
            status = tpio_tls_credentials_acquire(server, protocols, newest, certificate, &self.handle)
        if status != 0:
            raise tls_error(status, "the system gives no credentials for these versions and this certificate")
        self.acquired = True

    def __dealloc__(self):
        if self.acquired:
            tpio_tls_credentials_free(&self.handle)


# As with bytearray, what somebody has hold of is not moved: the system may have it, also when a step was given up for lack
# of memory.

cdef class TLSInput:
    """Where the peer's next bytes go, as a buffer."""

    cdef TLSMachine machine
    cdef LONG exports

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef void *room
        cdef DWORD size
        if InterlockedIncrement(&self.exports) != 1:
            InterlockedDecrement(&self.exports)
            raise BufferError("the peer's bytes are being received")
        try:
            if not tpio_tls_room(self.machine.native, &room, &size):
                if tpio_tls_undecrypted(self.machine.native) >= TPIO_TLS_LARGEST:
                    raise tls_error(SEC_E_ILLEGAL_MESSAGE, "a message of the peer has no end")
                raise MemoryError("no memory for what the peer sends")
            PyBuffer_FillInfo(buffer, self, room, size, False, flags)
        except BaseException:
            InterlockedDecrement(&self.exports)
            raise

    def __releasebuffer__(self, Py_buffer *buffer):
        InterlockedDecrement(&self.exports)


cdef class TLSOutput:
    """What is to be sent, as a buffer, until more is taken."""

    cdef TLSMachine machine
    cdef void *bytes
    cdef DWORD size
    cdef LONG number

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        InterlockedIncrement(&self.machine.sending)
        try:
            if self.number != self.machine.taken:
                raise BufferError("more has been taken since")
            PyBuffer_FillInfo(buffer, self, self.bytes, self.size, True, flags)
        except BaseException:
            InterlockedDecrement(&self.machine.sending)
            raise

    def __releasebuffer__(self, Py_buffer *buffer):
        InterlockedDecrement(&self.machine.sending)


cdef class TLSMachine:
    """One end of a TLS connection, without the connection: see tpio_tls.h.

    One thread may handshake or read while another writes: the façade sees to it.
    """

    cdef tpio_tls *native
    cdef TLSCredentials credentials
    cdef readonly TLSInput input
    cdef LONG sending            # exports of what was taken last
    cdef LONG taken              # its number

    def __init__(self, TLSCredentials credentials, *, bint mutual, target, bytes protocols):
        cdef tpio_tls_config config
        cdef DWORD error
        cdef Wide name = Wide(target or "")
        if self.native != NULL:
            raise RuntimeError("it is initialized once")
        config.sspi = tpio_tls_sspi(&error)
        if config.sspi == NULL:
            raise tls_error(error, "the system has no TLS")
        config.credentials = &credentials.handle
        config.server = credentials.server
        config.mutual = mutual
        config.target = NULL if target is None else name.text
        config.protocols = PyBytes_AS_STRING(protocols)
        config.protocols_size = <DWORD>len(protocols)
        config.silent_close = tpio_tls_close_is_silent()
        self.native = tpio_tls_create(&config)
        if self.native == NULL:
            raise MemoryError("no memory for a TLS connection")
        self.credentials = credentials
        self.input = TLSInput()
        self.input.machine = self

    def __dealloc__(self):
        with nogil:
            tpio_tls_free(self.native)

    cdef object failure(self, tpio_tls_result result):
        return tls_failure(result, tpio_tls_error(self.native))

    def received(self, DWORD count):
        """That many bytes were put into `input`; 0: there will be no more."""
        tpio_tls_received(self.native, count)

    def handshake(self):
        """True: done. False: not without more input. There may be output either way, and when this raises."""
        cdef tpio_tls_result result
        with nogil:
            result = tpio_tls_handshake(self.native)
        if result == TPIO_TLS_OK or result == TPIO_TLS_WANT_INPUT:
            return result == TPIO_TLS_OK
        raise self.failure(result)

    def read(self, n):
        """Up to n bytes, b"" at the end, None: not without more input. There may be output afterwards."""
        cdef Py_ssize_t size = as_size(n), here
        cdef size_t count = 0
        cdef tpio_tls_result result
        cdef object data
        cdef PyObject *resized
        cdef char *place
        if size == 0:
            return b""
        here = max(tpio_tls_unread(self.native) + tpio_tls_undecrypted(self.native), 1)
        data = new_bytes(min(size, here))
        size = PyBytes_GET_SIZE(data)
        place = PyBytes_AS_STRING(data)
        with nogil:
            result = tpio_tls_read(self.native, place, size, &count)
        if result == TPIO_TLS_WANT_INPUT:
            return None
        if result == TPIO_TLS_ENDED:
            return b""
        if result != TPIO_TLS_OK:
            raise self.failure(result)
        if <Py_ssize_t>count == size:
            return data
        resized = <PyObject *>data
        Py_INCREF(data)
        data = None  # one reference left, as resizing demands
        _PyBytes_Resize(&resized, count)
        data = <object>resized
        Py_XDECREF(resized)
        return data

    def read_into(self, buffer):
        """The number of bytes put into a buffer, 0 at the end, None: not without more input."""
        cdef Py_buffer view
        cdef size_t count = 0
        cdef tpio_tls_result result
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            with nogil:
                result = tpio_tls_read(self.native, view.buf, view.len, &count)
        finally:
            PyBuffer_Release(&view)
        if result == TPIO_TLS_WANT_INPUT:
            return None
        if result != TPIO_TLS_OK and result != TPIO_TLS_ENDED:
            raise self.failure(result)
        return count

    def write(self, data, Py_ssize_t offset):
        """Encrypts what follows the offset, as far as goes at once; the number of bytes."""
        cdef Py_buffer view
        cdef size_t count = 0
        cdef tpio_tls_result result
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if offset > view.len:
                raise ValueError("the buffer has become smaller")
            with nogil:
                result = tpio_tls_write(self.native, <char *>view.buf + offset, view.len - offset, &count)
        finally:
            PyBuffer_Release(&view)
        if result != TPIO_TLS_OK:
            raise self.failure(result)
        return count

    def shut(self):
        """Puts close_notify out."""
        cdef tpio_tls_result result
        with nogil:
            result = tpio_tls_shut(self.native)
        if result != TPIO_TLS_OK:
            raise self.failure(result)

    def take_output(self):
        """What is to be sent, before anything later; None if there is nothing. It is good until the next take, which is
        refused (BufferError) while somebody has hold of it."""
        cdef TLSOutput output = TLSOutput()
        cdef void *bytes
        cdef DWORD size
        # The number first: whoever takes hold of the last one meanwhile looks at it after he has said so.
        InterlockedIncrement(&self.taken)
        if self.sending != 0:
            raise BufferError("what was taken before is being sent")
        size = tpio_tls_take_output(self.native, &bytes)
        if size == 0:
            return None
        output.machine = self
        output.bytes = bytes
        output.size = size
        output.number = self.taken
        return output

    @property
    def unsent(self):
        return tpio_tls_unsent(self.native)

    @property
    def unread(self):
        return tpio_tls_unread(self.native)

    def rest(self):
        """What the peer has sent after its close_notify; it is no part of TLS."""
        cdef Py_ssize_t size = tpio_tls_undecrypted(self.native)
        data = new_bytes(size)
        tpio_tls_take_undecrypted(self.native, PyBytes_AS_STRING(data), size)
        return data

    def verify(self, TLSRoots roots, name, bytes address, int revocation, bint offline):
        """Raises CertificateVerificationError, and puts an alert out, when the peer's certificate is not good.

        https://learn.microsoft.com/windows/win32/api/wincrypt/nf-wincrypt-certgetcertificatechain
        """
        cdef tpio_tls_verification wanted
        cdef PCCERT_CONTEXT certificate
        cdef Wide text = Wide(name or "")
        cdef DWORD error
        wanted.roots = NULL if roots is None else roots.store
        wanted.server = not self.credentials.server
        wanted.name = NULL if name is None else text.text
        wanted.address = <const unsigned char *>PyBytes_AS_STRING(address)
        wanted.address_size = <DWORD>len(address)
        wanted.revocation = <tpio_tls_revocation>revocation
        wanted.offline = offline
        wanted.trust = wanted.policy = 0
        wanted.other_address = False
        certificate = tpio_tls_peer(self.native)
        if certificate == NULL:
            failure = CertificateVerificationError(0, "the peer has no certificate", None, signed_status(0x8009030E))
            failure.reasons = ("no certificate",)
            raise failure
        with nogil:
            error = tpio_tls_verify(certificate, &wanted)
            tpio_tls_certificate_free(certificate)
        if error != 0 or wanted.trust != 0 or wanted.policy != 0 or wanted.other_address:
            with nogil:
                tpio_tls_alert(self.native, tpio_alert_for(wanted.trust))
            raise verification_error(&wanted, error)

    @property
    def protocol(self):
        return tpio_tls_protocol(self.native)

    @property
    def cipher(self):
        cdef WCHAR name[64]
        cdef DWORD bits = tpio_tls_cipher(self.native, name)
        name[63] = 0
        return PyUnicode_FromWideChar(name, -1), bits

    @property
    def alpn(self):
        cdef unsigned char name[255]
        cdef DWORD size = tpio_tls_application_protocol(self.native, name)
        return name[:size]

    @property
    def peer_certificate(self):
        cdef PCCERT_CONTEXT certificate = tpio_tls_peer(self.native)
        if certificate == NULL:
            return None
        try:
            return PyBytes_FromStringAndSize(<char *>certificate.pbCertEncoded, certificate.cbCertEncoded)
        finally:
            tpio_tls_certificate_free(certificate)

    def binding(self, bint endpoint):
        cdef unsigned char data[512]
        cdef DWORD size = tpio_tls_binding(self.native, SECPKG_ATTR_ENDPOINT_BINDINGS if endpoint
                                           else SECPKG_ATTR_UNIQUE_BINDINGS, data, sizeof(data))
        return data[:size] if 0 < size <= sizeof(data) else None
