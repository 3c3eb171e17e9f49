package tidings

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
)

// TokenSource returns a token (a JWT). Calls never overlap.
type TokenSource func(ctx context.Context) (string, error)

// A new token is fetched this long before the old one expires, or at half of its lifetime.
const early = time.Minute

// tokens holds the current token.
type tokens struct {
	source TokenSource
	// asking is held while the source is called. A channel, so that waiting can be cancelled.
	asking chan struct{}

	mu      sync.Mutex
	token   string
	renewAt time.Time
	endsAt  time.Time
}

func newTokens(static string, source TokenSource) *tokens {
	return &tokens{source: source, token: static, asking: make(chan struct{}, 1)}
}

// get returns a token that remains valid for a while. The error is `unavailable` if the source fails and there is no
// valid token.
func (t *tokens) get(ctx context.Context) (string, error) {
	if token, fresh := t.current(); fresh {
		return token, nil
	}
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
	case <-ctx.Done():
		return "", failureOf(ctx.Err())
	}
	if token, fresh := t.current(); fresh {
		return token, nil
	}
	token, err := t.source(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if t.token != "" && time.Now().Before(t.endsAt) {
			return t.token, nil
		}
		// The source's own error might contain a secret.
		return "", &Error{Code: "unavailable", Message: fmt.Sprintf("the token source failed: %T", err)}
	}
	t.token, t.endsAt = token, expiry(token)
	left := time.Until(t.endsAt)
	t.renewAt = t.endsAt.Add(-min(early, left/2))
	return token, nil
}

// refused says that the server refused this token. It returns true if there may be another one.
func (t *tokens) refused(token string) bool {
	if t.source == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if token == t.token {
		t.token = ""
	}
	return true
}

func (t *tokens) current() (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token, t.source == nil || t.token != "" && time.Now().Before(t.renewAt)
}

// expiry returns when a JWT expires: far in the future if it does not say.
func expiry(token string) time.Time {
	never := time.Now().AddDate(100, 0, 0)
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return never
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return never
	}
	var claims struct {
		Exp *float64 `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Exp == nil || *claims.Exp > math.MaxUint32 {
		return never
	}
	return time.UnixMilli(int64(*claims.Exp * 1000))
}
