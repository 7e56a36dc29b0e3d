/* One direction of SRTP by libsrtp (Debian's libsrtp2), driven over stdin and stdout by tests/tests/srtp_agreement.
 *
 * Request: operation, length (two octets, network order), that many octets. Answer: status (0 is done), length, octets.
 *   N  a fresh pair of sessions: suite, length of the MKI, MKI, key and salt
 *   S  protect RTP     O  unprotect RTP
 *   s  protect RTCP    o  unprotect RTCP
 */
#include <srtp2/srtp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PACKET_BYTES_MAX = 8192 };

static srtp_t sealing, opening;
static int has_sessions, has_mki;

static int read_all(uint8_t *to, size_t count) { return fread(to, 1, count, stdin) == count; }

static int begin(const uint8_t *in, size_t length) {
    if (length < 2 || length < 2u + in[1]) return 1;
    uint8_t key[SRTP_MAX_KEY_LEN] = {0}, mki[SRTP_MAX_MKI_LEN] = {0};
    size_t mki_bytes = in[1], key_bytes = length - 2 - mki_bytes;
    if (mki_bytes > sizeof mki || key_bytes > sizeof key) return 1;
    memcpy(mki, in + 2, mki_bytes);
    memcpy(key, in + 2 + mki_bytes, key_bytes);

    srtp_policy_t policy;
    memset(&policy, 0, sizeof policy);
    switch (in[0]) {
    case 0:
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtp);
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtcp);
        break;
    case 1: /* RFC 4568 6.2.2: reports have the long tag. */
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(&policy.rtp);
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtcp);
        break;
    case 2:
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtcp);
        break;
    case 3:
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtp);
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy.rtcp);
        break;
    default:
        return 1;
    }
    srtp_master_key_t master = {key, mki, (unsigned)mki_bytes};
    srtp_master_key_t *masters[] = {&master};
    policy.keys = masters;
    policy.num_master_keys = 1;
    if (has_sessions) {
        srtp_dealloc(sealing);
        srtp_dealloc(opening);
    }
    has_mki = mki_bytes > 0;
    policy.ssrc.type = ssrc_any_outbound;
    if (srtp_create(&sealing, &policy) != srtp_err_status_ok) return 2;
    policy.ssrc.type = ssrc_any_inbound;
    if (srtp_create(&opening, &policy) != srtp_err_status_ok) return 2;
    has_sessions = 1;
    return 0;
}

int main(void) {
    /* Headers are read in words of 32 bits. */
    static union { uint32_t words; uint8_t octets[PACKET_BYTES_MAX + SRTP_MAX_TRAILER_LEN + SRTP_MAX_MKI_LEN + 8]; } packet;
    uint8_t head[3];
    if (srtp_init() != srtp_err_status_ok) return 1;
    while (read_all(head, sizeof head)) {
        int length = head[1] << 8 | head[2], status = 1;
        if (length > PACKET_BYTES_MAX || !read_all(packet.octets, (size_t)length)) return 1;
        switch (head[0]) {
        case 'N': status = begin(packet.octets, (size_t)length), length = 0; break;
        case 'S': status = srtp_protect_mki(sealing, packet.octets, &length, (unsigned)has_mki, 0); break;
        case 'O': status = srtp_unprotect_mki(opening, packet.octets, &length, (unsigned)has_mki); break;
        case 's': status = srtp_protect_rtcp_mki(sealing, packet.octets, &length, (unsigned)has_mki, 0); break;
        case 'o': status = srtp_unprotect_rtcp_mki(opening, packet.octets, &length, (unsigned)has_mki); break;
        default: return 1;
        }
        if (status != 0) length = 0;
        uint8_t answer[3] = {(uint8_t)status, (uint8_t)(length >> 8), (uint8_t)length};
        fwrite(answer, 1, sizeof answer, stdout);
        fwrite(packet.octets, 1, (size_t)length, stdout);
        if (fflush(stdout) != 0) return 1;
    }
    return 0;
}
