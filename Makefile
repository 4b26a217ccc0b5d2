# What people and CI type. Every target is one or two plain cargo commands.

.PHONY: run build test test-glommio tidy bench load compare deep loom fuzz fuzz-codec fuzz-event fuzz-plugins fmt

# The gateway in the foreground: proxy on 8000 and 8443, Admin API on 127.0.0.1:8001.
# Its database and logs are in .tollgate; Kong's own default is /usr/local/kong.
KONG_PREFIX ?= $(CURDIR)/.tollgate
run:
	KONG_PREFIX="$(KONG_PREFIX)" cargo run --release --bin tollgate -- start

build:
	cargo build --release --bin tollgate

# The test command: format, lints, every test.
test:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace

# The same tests of runtime and gateway on the further driver, which plain builds leave out. Needs git
# (a build script calls it) and a kernel that allows io_uring.
test-glommio:
	cargo clippy -p runtime -p proxy --features proxy/glommio --all-targets -- -D warnings
	cargo test -p runtime --features glommio
	TOLLGATE_IO=glommio cargo test -p proxy --features glommio --test black_box

# The style tests alone: seconds.
tidy:
	cargo test -p tidy

# Micro-benchmarks of the parts.
bench:
	cargo bench -p bench

# The gateway beside nginx in interleaved rounds: CPU per request, latency, memory.
compare: build
	cargo run --release --bin loadtest -- compare --tollgate target/release/tollgate

# Crash, rate-limit, live-configuration and memory experiments against a real gateway.
load: build
	cargo run --release --bin loadtest -- prove --tollgate target/release/tollgate

# More interleavings of the event ring's protocol than in a plain test run.
loom:
	LOOM_MAX_PREEMPTIONS=8 cargo test -p runtime ring::tests::model

# Seconds that each fuzz target runs.
FUZZ_S ?= 60

# Random bytes against the HTTP codec and against what becomes an event; needs g++ for libFuzzer.
# A crash leaves its input in target/.
fuzz: fuzz-codec fuzz-event fuzz-plugins

fuzz-plugins:
	cd plugins/fuzz && cargo build --release && for name in template cache_headers json authorization \
		jwt hmac cookie; do \
		mkdir -p target/corpus/$$name && cargo run --release --bin $$name -- \
		target/corpus/$$name seeds/$$name -dict=plugins.dict -max_len=4096 -timeout=10 \
		-rss_limit_mb=2048 -max_total_time=$(FUZZ_S) -artifact_prefix=target/ || exit 1; done

fuzz-event:
	cd exporter/fuzz && mkdir -p target/corpus/event && cargo run --release --bin event -- \
		target/corpus/event seeds/event -dict=event.dict -max_len=4096 -max_total_time=$(FUZZ_S) \
		-artifact_prefix=target/

fuzz-codec:
	cd runtime/fuzz && cargo build --release && for name in head response chunks fields proxy_protocol h2; do \
		mkdir -p target/corpus/$$name && cargo run --release --bin $$name -- \
			target/corpus/$$name seeds/$$name -dict=http.dict -max_len=1024 \
			-max_total_time=$(FUZZ_S) -artifact_prefix=target/ || exit 1; done

# Everything that takes minutes: ignored tests, more seeds, loom, fuzzing.
deep: loom fuzz
	cargo test --workspace -- --ignored

fmt:
	cargo fmt --all
