# heapd -- CPython's memory manager as a network service.  `make help` lists the targets.

# What you may set:
CC        ?= gcc
OPTIMIZE  ?= -O2
# address (with undefined), thread, fuzzer (clang's, with both of the first), or nothing
SANITIZE  ?=
# 0: assertions that are always on; 1: cheap debug checks; 2: slow ones
HEAP_DEBUG ?= 0
PREFIX    ?= /usr/local
# for `make bench`: names of groups, or all
ONLY      ?=
# for `make fuzz`: a target of tests/fuzz/, or all, and how long each runs
TARGET    ?= all
SECONDS   ?= 60
# where the C sources of llhttp are, and its header below its folder
LLHTTP    ?= /usr/share/llhttp
LLHTTP_INCLUDE ?= /usr/share/include
# 1: show the commands
V         ?=
# Nothing below needs touching.

# libuv: loops, sockets, signals, threads.  jansson: JSON off the hot path, in the client and the tests.
# OpenSSL: TLS, of the daemon and of the client library.
# llhttp: parses HTTP; it comes as C sources, which are compiled in: Debian packs no library of it, and a parser that
# all of node's users test is safer than a new one.
# libedit: the prompt of heapctl.  libcurl and cmocka: the tests.  zlib: the tests' real heap trace.
Q := $(if $(V),,@)
say = @printf '  %-5s %s\n' $(1) $(2)
# `make check` has objects of its own: those of another build would hide their warnings.
B := build$(if $(SANITIZE),/$(SANITIZE))$(if $(WERROR),/check)

SANITIZE_FLAGS_address := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SANITIZE_FLAGS_thread  := -fsanitize=thread -fno-omit-frame-pointer
# C2y makes NULL + 0 a pointer, clang still minds.
SANITIZE_FLAGS_fuzzer  := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=pointer-overflow \
                          -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SANITIZE_FLAGS_        :=
ifneq ($(SANITIZE),)
HEAP_DEBUG := 2
OPTIMIZE   := -O1
endif
ifeq ($(SANITIZE),fuzzer)
CC := clang
endif

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual \
            -Wwrite-strings -Wvla -Wswitch
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE -g $(OPTIMIZE) $(WARNINGS) $(if $(WERROR),-Werror) \
              -DHEAP_DEBUG=$(HEAP_DEBUG) $(SANITIZE_FLAGS_$(SANITIZE)) -pthread -MMD -MP $(CFLAGS)
LDFLAGS_ALL := $(SANITIZE_FLAGS_$(SANITIZE)) -pthread $(LDFLAGS)

objects = $(patsubst %.c,$(B)/%.o,$(wildcard $(1)/*.c))
HEAP_OBJECTS     := $(call objects,heap)
PROTOCOL_OBJECTS := $(call objects,protocol)
SERVER_OBJECTS   := $(call objects,server)
CLIENT_LIB       := $(B)/client/heapd_client.o $(B)/client/heapd_tls.o
HEAPCTL_OBJECTS  := $(filter-out $(CLIENT_LIB),$(call objects,client))
LLHTTP_OBJECTS   := $(patsubst %,$(B)/llhttp/%.o,api http llhttp)
SUPPORT_OBJECTS  := $(call objects,tests/support)
UNIT_TESTS        := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
INTEGRATION_TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/integration/test_*.c))
TEST_TOOLS        := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/tools/*.c))
FUZZ_TARGETS      := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
BENCH_PROGRAMS    := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/bench/bench_*.c))
# Linked into bench_heapd alone.
HOLD_CLOCK        := $(B)/tests/bench/hold_clock.o
BENCH_OBJECTS     := $(filter-out $(BENCH_PROGRAMS:%=%.o) $(HOLD_CLOCK),$(call objects,tests/bench))

all: programs ## build build/heapd and build/heapctl (the default)

programs: $(B)/heapd $(B)/heapctl

$(B)/libheap.a: $(HEAP_OBJECTS)
$(B)/libllhttp.a: $(LLHTTP_OBJECTS)
$(B)/libprotocol.a: $(PROTOCOL_OBJECTS)
$(B)/libsupport.a: $(SUPPORT_OBJECTS)
$(B)/libheapdclient.a: $(CLIENT_LIB)
$(B)/%.a:
	@rm -f $@
	$(Q)ar rcs $@ $^

$(B)/heapd: $(SERVER_OBJECTS) $(B)/libprotocol.a $(B)/libheap.a $(B)/libllhttp.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -luv -ljansson -lssl -lcrypto -lm
$(B)/heapctl: $(HEAPCTL_OBJECTS) $(B)/libheapdclient.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -ljansson -ledit -lssl -lcrypto -lm

$(LLHTTP)/%.c:
	@echo "there is no $@: run deploy/install-deps.sh build, or say LLHTTP=FOLDER LLHTTP_INCLUDE=FOLDER" >&2; exit 1
# Strict: what llhttp forgives by default is how requests are smuggled past proxies.  Its warnings are not ours.
$(B)/llhttp/%.o: $(LLHTTP)/%.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(filter-out -W%,$(CFLAGS_ALL)) -w -DLLHTTP_STRICT_MODE=1 -I$(LLHTTP_INCLUDE)/llhttp -c -o $@ $<
$(B)/server/%.o $(B)/tests/unit/%.o $(B)/tests/fuzz/%.o: CFLAGS_ALL += -DLLHTTP_STRICT_MODE=1 -isystem $(LLHTTP_INCLUDE)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CFLAGS_ALL) -c -o $@ $<

$(UNIT_TESTS): $(B)/%: $(B)/%.o $(B)/libsupport.a $(B)/libprotocol.a $(B)/libheap.a $(B)/libheapdclient.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka -ljansson -lssl -lcrypto -lz -lm
# Their allocations can be made to fail.
$(B)/tests/unit/test_faults $(B)/tests/unit/test_question_faults: \
    LDFLAGS_ALL += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
$(INTEGRATION_TESTS) $(TEST_TOOLS): $(B)/%: $(B)/%.o $(B)/libsupport.a $(B)/libheapdclient.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka -lcurl -ljansson -lssl -lcrypto -lz -lm
$(BENCH_PROGRAMS): $(B)/%: $(B)/%.o $(BENCH_OBJECTS) $(B)/libheap.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -luv -lz -lm
# The daemon with a clock around each hold of the GIL.
$(B)/tests/bench/bench_heapd: $(SERVER_OBJECTS) $(HOLD_CLOCK) $(B)/tests/bench/latency.o $(B)/libprotocol.a $(B)/libheap.a \
    $(B)/libllhttp.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,--wrap=heap_enter,--wrap=heap_enter_within,--wrap=heap_leave,--wrap=heap_give_way -o $@ $^ -luv -ljansson -lssl -lcrypto -lm

# Where there is no libFuzzer they run their corpus.
FUZZ_MAIN := $(if $(filter fuzzer,$(SANITIZE)),,$(B)/tests/fuzz/corpus.o)
$(FUZZ_TARGETS): $(B)/%: $(B)/%.o $(FUZZ_MAIN) $(B)/libprotocol.a $(B)/libheap.a $(B)/libllhttp.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $(if $(FUZZ_MAIN),,-fsanitize=fuzzer) -o $@ $^ -luv -ljansson -lm

# Preloaded, so it is no part of any build with a sanitizer.
build/tests/fault/faults.so: tests/fault/faults.c
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -g -O2 -fno-omit-frame-pointer -fno-optimize-sibling-calls $(WARNINGS) \
	    $(if $(WERROR),-Werror) -fPIC -shared -o $@ $<

unit-programs: $(UNIT_TESTS)
fuzz-programs: $(FUZZ_TARGETS)
test-programs: programs $(UNIT_TESTS) $(INTEGRATION_TESTS) $(TEST_TOOLS) build/tests/fault/faults.so
bench-programs: programs $(BENCH_PROGRAMS) $(B)/tests/bench/bench_heapd

deps-build deps-test deps-bench deps-fuzz:
	@deploy/install-deps.sh $(@:deps-%=%)

run: deps-build ## install what is missing, build, start the daemon in the foreground
	@$(MAKE) --no-print-directory all
	exec $(B)/heapd --listen "unix:$${XDG_RUNTIME_DIR:-/tmp/heapd-$$(id -u)}/heapd.sock" --listen tcp:127.0.0.1:7411

test: deps-test ## install what is missing, build, run every test (under ten minutes)
	@tests/run.sh

test-devtools: programs ## load heap snapshots in the DevTools of headless Chromium (part of test)
	@tests/devtools/run.sh

test-long: deps-test ## the long runs: more rounds, more seeds
	@LONG=1 tests/run.sh

bench: deps-bench ## measure against the peers; ONLY=wire runs one group
	@$(MAKE) --no-print-directory bench-programs
	@tests/bench/run.sh $(ONLY)

bench-readme: ## put the table of the last whole `make bench` into README.md
	@python3 -B tests/bench/readme.py

fuzz: deps-fuzz ## run fuzz targets with clang's libFuzzer; TARGET=wire SECONDS=600 runs one for so long
	@$(MAKE) --no-print-directory SANITIZE=fuzzer fuzz-programs
	@tests/fuzz/fuzz.sh $(SECONDS) $(filter-out all,$(TARGET))

layers: programs ## check that includes and symbols only point down the layers
	@tests/layers.sh $(B)

check: ## build everything with -Werror, check the layers
	@$(MAKE) --no-print-directory WERROR=1 programs test-programs layers

format: ## format the sources with clang-format
	clang-format -i $(shell git ls-files '*.c' '*.h')

install: all ## install the programs below PREFIX
	install -D -m 755 $(B)/heapd $(DESTDIR)$(PREFIX)/bin/heapd
	install -D -m 755 $(B)/heapctl $(DESTDIR)$(PREFIX)/bin/heapctl

clean: ## remove build/
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: all programs unit-programs test-programs fuzz-programs bench-programs deps-build deps-test deps-bench deps-fuzz run \
        test test-devtools test-long bench bench-readme fuzz layers check format install clean help
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
