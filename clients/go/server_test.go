package tidings_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tidings "github.com/tidings/tidings/clients/go"
)

const secret = "a-secret-for-the-tests-of-this-client"

const memory = `
[[namespace]]
name = "project"
history = { size = 20000, ttl = "1h" }
presence = true
`

const disk = memory + `
[history]
storage = "disk"
path = "HOME/data"
`

var quick = tidings.Backoff{First: 50 * time.Millisecond, Longest: 500 * time.Millisecond}

// server is a real server, which can be killed and restarted at the same address.
type server struct {
	t       *testing.T
	home    string
	more    string
	process *exec.Cmd
	ports   [2]string
}

func start(t *testing.T, more string) *server {
	s := &server{t: t, home: t.TempDir(), more: more, ports: [2]string{"0", "0"}}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	binary := os.Getenv("TIDINGS_BIN")
	if binary == "" {
		binary = filepath.Join("..", "..", "target", "debug", "tidings")
	}
	config, ready := filepath.Join(s.home, "tidings.toml"), filepath.Join(s.home, "ready.json")
	_ = os.Remove(ready)
	text := fmt.Sprintf("[public]\nlisten = \"127.0.0.1:%s\"\n[internal]\nlisten = \"127.0.0.1:%s\"\n"+
		"[auth]\nhs256_secret = \"%s\"\nleeway = \"0s\"\n%s", s.ports[0], s.ports[1], secret,
		strings.ReplaceAll(s.more, "HOME", s.home))
	check(s.t, os.WriteFile(config, []byte(text), 0o600))
	log, err := os.OpenFile(filepath.Join(s.home, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	check(s.t, err)
	defer log.Close()
	s.process = exec.Command(binary, "serve", "--config", config, "--ready-file", ready)
	s.process.Stdout, s.process.Stderr = log, log
	// The caller's settings must not affect the server.
	s.process.Env = slices.DeleteFunc(os.Environ(), func(set string) bool { return strings.HasPrefix(set, "TIDINGS_") })
	check(s.t, s.process.Start())
	until(s.t, "the server is ready", func() bool {
		bound, err := os.ReadFile(ready)
		var addresses struct{ Public, Internal string }
		if err != nil || json.Unmarshal(bound, &addresses) != nil {
			return false
		}
		_, s.ports[0], _ = strings.Cut(addresses.Public, ":")
		_, s.ports[1], _ = strings.Cut(addresses.Internal, ":")
		return true
	})
}

func (s *server) kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

func (s *server) address() string { return "127.0.0.1:" + s.ports[1] }

func (s *server) client(options tidings.Options) *tidings.Client {
	return s.clientAt(s.address(), options)
}

func (s *server) clientAt(address string, options tidings.Options) *tidings.Client {
	if options.Token == "" && options.TokenSource == nil {
		options.Token = token(time.Hour, "service", "admin")
	}
	options.Backoff = quick
	client, err := tidings.New(address, options)
	check(s.t, err)
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// token makes a JWT that the server accepts.
func token(ttl time.Duration, roles ...string) string {
	part := func(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }
	claims, _ := json.Marshal(map[string]any{"sub": "tests", "roles": roles, "exp": time.Now().Add(ttl).Unix()})
	text := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part(claims)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + part(mac.Sum(nil))
}

// line is a TCP proxy to a server that can be cut, and that can hold responses back.
type line struct {
	listener net.Listener
	mu       sync.Mutex
	flows    *sync.Cond
	held     bool
	cuts     int
	open     []net.Conn
}

func proxy(t *testing.T, s *server) *line {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	l := &line{listener: listener}
	l.flows = sync.NewCond(&l.mu)
	t.Cleanup(func() { _ = listener.Close(); l.hold(false); l.cut() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", s.address())
			if err != nil {
				_ = near.Close()
				continue
			}
			l.mu.Lock()
			l.open = append(l.open, near, far)
			l.mu.Unlock()
			go l.pump(near, far, false)
			go l.pump(far, near, true)
		}
	}()
	return l
}

func (l *line) address() string { return l.listener.Addr().String() }

func (l *line) pump(from, to net.Conn, back bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if back {
			l.mu.Lock()
			cuts := l.cuts
			for l.held && cuts == l.cuts {
				l.flows.Wait()
			}
			lost := cuts != l.cuts
			l.mu.Unlock()
			if lost {
				return
			}
		}
		if _, failed := to.Write(buffer[:n]); failed != nil || err == io.EOF || err != nil {
			return
		}
	}
}

// cut closes all connections. Responses that were held back are lost.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.open {
		_ = conn.Close()
	}
	l.open, l.cuts = nil, l.cuts+1
	l.flows.Broadcast()
}

func (l *line) hold(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	l.flows.Broadcast()
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}
