# heapd -- CPython's memory manager as a network service.  `make help` lists the targets.

# What you may set:
CC        ?= gcc
OPTIMIZE  ?= -O2
# address (with undefined), thread, or nothing
SANITIZE  ?=
# 0: assertions that are always on; 1: cheap debug checks; 2: slow ones
HEAP_DEBUG ?= 0
PREFIX    ?= /usr/local
# for `make bench`: names of groups, or all
ONLY      ?=
# 1: show the commands
V         ?=
# Nothing below needs touching.

# libuv: loops, sockets, signals, threads.  jansson: JSON off the hot path, in the client and the tests.
# libedit: the prompt of heapctl.  libcurl and cmocka: the tests.  zlib: the tests' real heap trace.
Q := $(if $(V),,@)
say = @printf '  %-5s %s\n' $(1) $(2)
# `make check` has objects of its own: those of another build would hide their warnings.
B := build$(if $(SANITIZE),/$(SANITIZE))$(if $(WERROR),/check)

SANITIZE_FLAGS_address := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SANITIZE_FLAGS_thread  := -fsanitize=thread -fno-omit-frame-pointer
SANITIZE_FLAGS_        :=
ifneq ($(SANITIZE),)
HEAP_DEBUG := 2
OPTIMIZE   := -O1
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
CLIENT_LIB       := $(B)/client/heapd_client.o
HEAPCTL_OBJECTS  := $(filter-out $(CLIENT_LIB),$(call objects,client))
SUPPORT_OBJECTS  := $(call objects,tests/support)
UNIT_TESTS        := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
INTEGRATION_TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/integration/test_*.c))
TEST_TOOLS        := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/tools/*.c))
BENCH_PROGRAMS    := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/bench/bench_*.c))
# Linked into bench_heapd alone.
HOLD_CLOCK        := $(B)/tests/bench/hold_clock.o
BENCH_OBJECTS     := $(filter-out $(BENCH_PROGRAMS:%=%.o) $(HOLD_CLOCK),$(call objects,tests/bench))

all: programs ## build build/heapd and build/heapctl (the default)

programs: $(B)/heapd $(B)/heapctl

$(B)/libheap.a: $(HEAP_OBJECTS)
$(B)/libprotocol.a: $(PROTOCOL_OBJECTS)
$(B)/libsupport.a: $(SUPPORT_OBJECTS)
$(B)/libheapdclient.a: $(CLIENT_LIB)
$(B)/%.a:
	@rm -f $@
	$(Q)ar rcs $@ $^

$(B)/heapd: $(SERVER_OBJECTS) $(B)/libprotocol.a $(B)/libheap.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -luv -ljansson -lm
$(B)/heapctl: $(HEAPCTL_OBJECTS) $(B)/libheapdclient.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -ljansson -ledit -lm

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CFLAGS_ALL) -c -o $@ $<

$(UNIT_TESTS): $(B)/%: $(B)/%.o $(B)/libsupport.a $(B)/libprotocol.a $(B)/libheap.a $(B)/libheapdclient.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka -ljansson -lz -lm
# Its allocations can be made to fail.
$(B)/tests/unit/test_question_faults: LDFLAGS_ALL += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
$(INTEGRATION_TESTS) $(TEST_TOOLS): $(B)/%: $(B)/%.o $(B)/libsupport.a $(B)/libheapdclient.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcmocka -lcurl -ljansson -lz -lm
$(BENCH_PROGRAMS): $(B)/%: $(B)/%.o $(BENCH_OBJECTS) $(B)/libheap.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -luv -lz -lm
# The daemon with a clock around each hold of the GIL.
$(B)/tests/bench/bench_heapd: $(SERVER_OBJECTS) $(HOLD_CLOCK) $(B)/tests/bench/latency.o $(B)/libprotocol.a $(B)/libheap.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,--wrap=heap_enter,--wrap=heap_leave,--wrap=heap_give_way -o $@ $^ -luv -ljansson -lm

unit-programs: $(UNIT_TESTS)
test-programs: programs $(UNIT_TESTS) $(INTEGRATION_TESTS) $(TEST_TOOLS)
bench-programs: programs $(BENCH_PROGRAMS) $(B)/tests/bench/bench_heapd

deps-build deps-test deps-bench:
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

.PHONY: all programs unit-programs test-programs bench-programs deps-build deps-test deps-bench run test test-devtools test-long \
        bench bench-readme layers check format install clean help
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
