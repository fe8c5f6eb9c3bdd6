package engineapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const secretText = "7365637265747365637265747365637265747365637265747365637265747365"

var now = time.Unix(1_763_700_000, 500_000_000)

func secret(t *testing.T) Secret {
	t.Helper()
	s, err := ParseSecret(secretText)
	require.NoError(t, err)
	return s
}

// token signs any head and claims, as no well-behaved client would.
func token(s Secret, sum func() hash.Hash, head, claims string) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac := hmac.New(sum, s[:])
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestAMintedTokenIsTaken(t *testing.T) {
	s := secret(t)
	require.NoError(t, s.Verify(s.Authorization(now), now))
	require.NoError(t, s.Verify("bEARER "+s.Mint(now), now))
	require.NoError(t, s.Verify(s.Authorization(now), now.Add(TokenAge-time.Second)))
	require.NoError(t, s.Verify(s.Authorization(now), now.Add(-TokenAge)))
	require.Equal(t, token(s, sha256.New, `{"alg":"HS256","typ":"JWT"}`, fmt.Sprintf(`{"iat":%d}`, now.Unix())), s.Mint(now))
}

func TestWrongTokensAreRefusedInGethsWords(t *testing.T) {
	s := secret(t)
	hs256 := func(claims string) string { return "Bearer " + token(s, sha256.New, `{"alg":"HS256"}`, claims) }
	iat := fmt.Sprintf(`{"iat":%d`, now.Unix())
	for authorization, want := range map[string]string{
		"":                          "missing token",
		"Bearer":                    "missing token",
		"Bearer ":                   "missing token",
		"Basic eA==":                "missing token",
		"Bearer x":                  "token contains an invalid number of segments",
		"Bearer a.b.c.d":            "token contains an invalid number of segments",
		"Bearer  " + s.Mint(now):    "illegal base64 data at input byte 0",
		Secret{}.Authorization(now): "signature is invalid",
		s.Authorization(now) + "A":  "signature is invalid",
		s.Authorization(now.Add(-61 * time.Second)): "stale token",
		s.Authorization(now.Add(62 * time.Second)):  "future token",
		hs256(`{}`):              "missing issued-at",
		hs256(`{"iat":null}`):    "missing issued-at",
		hs256(iat + `,"exp":1}`): "token is expired",
		hs256(fmt.Sprintf(`%s,"exp":%d}`, iat, now.Unix())):            "token is expired",
		"Bearer " + token(s, sha256.New, `{"alg":"none"}`, iat+`}`):    "signing method none is invalid",
		"Bearer " + token(s, sha512.New, `{"alg":"HS512"}`, iat+`}`):   "signing method HS512 is invalid",
		"Bearer " + token(s, sha256.New, `{"alg":"RS256"}`, iat+`}`):   "signing method RS256 is invalid",
		"Bearer " + token(s, sha256.New, `{"alg":"hs256"}`, iat+`}`):   "signing method (alg) is unavailable.",
		"Bearer " + token(s, sha256.New, `{}`, iat+`}`):                "signing method (alg) is unspecified.",
		"Bearer " + token(s, sha256.New, `{"alg":["HS256"]}`, iat+`}`): "signing method (alg) is unspecified.",
	} {
		err := s.Verify(authorization, now)
		require.EqualError(t, err, want, authorization)
	}
	// The signature of an unsigned token is empty.
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(iat+`}`)) + "."
	require.EqualError(t, s.Verify("Bearer "+none, now), "signing method none is invalid")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(iat+`}`)) + "."
	require.ErrorIs(t, s.Verify("Bearer "+unsigned, now), ErrInvalidSignature)
}

func TestOtherClaimsAreIgnored(t *testing.T) {
	s := secret(t)
	for _, claims := range []string{`{"iat":%d,"id":"a","clv":"x","nbf":9999999999}`, `{"iat":%d.7}`, `{"iat":"%d"}`} {
		auth := "Bearer " + token(s, sha256.New, `{"typ":"x","alg":"HS256"}`, fmt.Sprintf(claims, now.Unix()))
		require.NoError(t, s.Verify(auth, now), claims)
	}
	for _, claims := range []string{`{"iat":"x"}`, `{"iat":1e300}`, `{"iat":true}`, `[]`, `x`} {
		require.Error(t, s.Verify("Bearer "+token(s, sha256.New, `{"alg":"HS256"}`, claims), now), claims)
	}
}

func TestASecretFileIsReadAsClientsWriteIt(t *testing.T) {
	dir := t.TempDir()
	for i, text := range []string{secretText, "0x" + secretText + "\n", "  0X" + strings.ToUpper(secretText) + "\r\n"} {
		path := filepath.Join(dir, fmt.Sprint(i))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		s, err := LoadSecret(path)
		require.NoError(t, err)
		require.Equal(t, secret(t), s)
	}
	for i, text := range []string{"", "0x", secretText[2:], secretText + "00", strings.Replace(secretText, "7", "z", 1)} {
		path := filepath.Join(dir, fmt.Sprint("bad", i))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := LoadSecret(path)
		require.ErrorIs(t, err, ErrSecret)
		if len(text) > 2 {
			require.NotContains(t, err.Error(), text)
		}
	}
	_, err := LoadSecret(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestASecretNeverShowsItself(t *testing.T) {
	s := secret(t)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).LogAttrs(t.Context(), slog.LevelInfo, "x", slog.Any("secret", s), slog.Any("pointer", &s))
	js, err := json.Marshal(map[string]any{"a": s, "b": &s})
	require.NoError(t, err)
	shown := log.String() + string(js)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%c"} {
		shown += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, &s) + fmt.Sprintf(verb, struct{ S Secret }{s})
	}
	require.NotContains(t, strings.ToLower(shown), "7365")
	require.NotContains(t, shown, "115")
	require.NotContains(t, shown, "secretsecret")
	require.False(t, s.IsZero())
	require.True(t, Secret{}.IsZero())
}

func TestATokenClaimsItsTimesToWhoeverReadsIt(t *testing.T) {
	issued, expires, ok := Claimed(secret(t).Authorization(now))
	require.True(t, ok)
	require.Equal(t, now.Unix(), issued.Unix())
	require.Zero(t, expires)
	_, expires, ok = Claimed("bearer " + token(Secret{}, sha256.New, `{}`, `{"iat":1,"exp":2}`))
	require.True(t, ok)
	require.Equal(t, time.Unix(2, 0), expires)
	for _, value := range []string{"", "Bearer", "Bearer x", "Bearer a.b.c", "Bearer a.b.c.d", "Bearer " + token(Secret{}, sha256.New, `{}`, `{"exp":2}`)} {
		_, _, ok = Claimed(value)
		require.False(t, ok, value)
	}
}

func FuzzVerify(f *testing.F) {
	s, err := ParseSecret(secretText)
	require.NoError(f, err)
	f.Add(s.Authorization(now))
	f.Add("Bearer a.b.c")
	f.Add("Bearer " + token(s, sha256.New, `{"alg":"none"}`, `{"iat":1}`))
	f.Fuzz(func(t *testing.T, authorization string) {
		issued, _, claimed := Claimed(authorization)
		if s.Verify(authorization, now) == nil {
			require.True(t, claimed)
			require.LessOrEqual(t, issued.Sub(now).Abs(), TokenAge)
			require.True(t, strings.EqualFold(authorization[:7], "Bearer "))
			require.ErrorIs(t, Secret{}.Verify(authorization, now), ErrInvalidSignature)
		}
	})
}
