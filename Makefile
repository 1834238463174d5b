# SPDX-License-Identifier: Apache-2.0
#
# fwd - build, check, install. `make help` lists the targets.

VERSION  := 0.1.0
PREFIX   ?= /usr/local
BINDIR   ?= $(PREFIX)/bin
DATADIR  ?= $(PREFIX)/share
MANDIR   ?= $(DATADIR)/man
DOCDIR   ?= $(DATADIR)/doc/fwd
DESTDIR  ?=

CC         ?= cc
PKG_CONFIG ?= pkg-config
INSTALL    ?= install
BUILD      ?= build
CFLAGS     ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wconversion \
	    -Wno-sign-conversion -Wvla $(if $(CI),-Werror)
DEFS     := -D_GNU_SOURCE -DFWD_VERSION='"$(VERSION)"' -Isrc -Iinclude
LIBS     := liburing libmnl jansson
BASE_CFLAGS = -std=gnu11 -pthread $(WARN) $(DEFS) $(shell $(PKG_CONFIG) --cflags $(LIBS))
LDLIBS    = $(shell $(PKG_CONFIG) --libs $(LIBS)) -pthread
# A distribution that sets a level of _FORTIFY_SOURCE keeps it.
FORTIFY  := $(if $(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),,-D_FORTIFY_SOURCE=2)
HARDEN   ?= -fstack-protector-strong $(FORTIFY) -fPIE
HARDEN_LD ?= -pie -Wl,-z,relro,-z,now

CLANG_FORMAT ?= clang-format
CLANG_TIDY   ?= clang-tidy
CPPCHECK     ?= cppcheck
FUZZ_CC      ?= clang
FUZZ_SECONDS ?= 30

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2))

# ---------------------------------------------------------------- sources
SRCS     := $(sort $(wildcard src/*/*.c))
LIB_SRCS := $(filter-out src/fwd/main.c,$(SRCS))
OBJS     := $(SRCS:%.c=$(BUILD)/%.o)
LIB_OBJS := $(LIB_SRCS:%.c=$(BUILD)/%.o)
HEADERS  := $(sort $(wildcard include/*.h src/*/*.h tests/*/*.h bench/*.h))

UNIT     := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/test_*.c)))
INTEG    := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/integ/test_*.c)))
PROBES   := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/kernel/*.c)))
FUZZERS  := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
HELPERS  := $(filter-out tests/integ/test_%.c,$(sort $(wildcard tests/integ/*.c)))
HELP_OBJ := $(HELPERS:%.c=$(BUILD)/%.o)
UNIT_SRC := $(filter-out tests/unit/test_%.c,$(sort $(wildcard tests/unit/*.c)))
UNIT_OBJ := $(UNIT_SRC:%.c=$(BUILD)/%.o)
TEST_LIBS = $(shell $(PKG_CONFIG) --libs criterion)

# ---------------------------------------------------------------- the program
all: $(BUILD)/fwd ## build build/fwd (the default)

$(BUILD)/fwd: $(OBJS)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libfwd.a: $(LIB_OBJS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(HARDEN) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---------------------------------------------------------------- set-up
# Targets that need more than a compiler install it by tests/deps, which says
# what it is about to do, and does nothing where nothing is missing.
deps: ## install what building needs
	$(Q)tests/deps build

deps-dev: ## install what testing, checking and measuring need, too
	$(Q)tests/deps build test podman demo namespaces fuzz lint man package bench

demo: ## see it work: two hosts, a rootless container, nginx in it
	$(Q)tests/deps build demo namespaces
	$(Q)$(MAKE) --no-print-directory all
	$(Q)BUILD=$(BUILD) tests/demo.sh

# ---------------------------------------------------------------- tests
tests: $(BUILD)/fwd $(UNIT) $(INTEG) $(PROBES) $(BUILD)/tests/podman/peer ## build every test

check: ## install what is missing, build, run every test
	$(Q)tests/deps build test podman namespaces
	$(Q)$(MAKE) --no-print-directory tests
	$(Q)BUILD=$(BUILD) tests/run

# One at a time: an ordinary user's tests have one limit on pipes in common.
check-unit: $(UNIT) ## build and run the unit tests alone: no namespace, no network
	$(Q)BUILD=$(BUILD) JOBS=1 tests/run $(UNIT)

$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(UNIT_OBJ) $(BUILD)/libfwd.a
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(TEST_LIBS)

$(BUILD)/tests/integ/test_%: $(BUILD)/tests/integ/test_%.o $(HELP_OBJ) $(BUILD)/libfwd.a
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(TEST_LIBS)

$(BUILD)/tests/kernel/%: $(BUILD)/tests/kernel/%.o
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/tests/podman/peer: $(BUILD)/tests/podman/peer.o
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^

# The same suite, built and run with a sanitizer. LIMIT: everything is slower.
# Criterion leaks a little itself.
comma := ,
SANITIZED = HARDEN= HARDEN_LD= CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=$(1)'

asan: ## run every test with AddressSanitizer and UBSan
	$(Q)tests/deps build test namespaces
	$(Q)$(MAKE) --no-print-directory BUILD=build-asan \
		$(call SANITIZED,address$(comma)undefined -fno-sanitize-recover=undefined) tests
	$(Q)supp=$$(mktemp); trap 'rm -f "$$supp"' EXIT; \
		chmod 644 "$$supp"; echo leak:libcriterion >"$$supp"; \
		LSAN_OPTIONS=suppressions=$$supp:print_suppressions=0 \
		BUILD=build-asan LIMIT=600 tests/run

# Only fwd has threads, and Criterion does not run under TSan: so fwd alone is built
# with it, and run by the plain suites. Without address randomisation: TSan wants
# fixed ranges for itself.
tsan: ## run the integration tests against fwd with ThreadSanitizer
	$(Q)tests/deps build test namespaces
	$(Q)$(MAKE) --no-print-directory tests
	$(Q)$(MAKE) --no-print-directory BUILD=build-tsan $(call SANITIZED,thread) \
		LDFLAGS='tests/tsan/fork.c -Wl,--wrap=fork' all
	$(Q)tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; chmod 777 "$$tmp"; \
		FWD=$(CURDIR)/build-tsan/fwd TSAN_OPTIONS="halt_on_error=1 log_path=$$tmp/report" \
		BUILD=$(BUILD) LIMIT=600 setarch -R tests/run $(INTEG) || { \
		for r in "$$tmp"/report.*; do [ -e "$$r" ] && head -n 60 "$$r" && break; done; \
		exit 1; }

# A fuzz target includes the module that it fuzzes.
$(BUILD)/tests/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(SRCS) $(HEADERS)
	$(call say,FUZZ,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(FUZZ_CC) -std=gnu11 $(DEFS) -g -O1 -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=undefined -o $@ $< $(LDLIBS)

fuzz: ## fuzz each target for FUZZ_SECONDS, from a copy of its corpus
	$(Q)tests/deps build fuzz
	$(Q)$(MAKE) --no-print-directory $(FUZZERS)
	$(Q)set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	for f in $(FUZZERS); do \
		name=$${f##*/fuzz_}; mkdir "$$tmp/$$name"; \
		cp -r tests/fuzz/corpus/$$name/. "$$tmp/$$name"; \
		printf '  %-7s %s for %s s\n' FUZZ "$$name" $(FUZZ_SECONDS); \
		$$f -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$(BUILD)/fuzz-$$name- \
			"$$tmp/$$name" >"$$tmp/$$name.log" 2>&1 </dev/null || \
			{ tail -n 60 "$$tmp/$$name.log"; exit 1; }; \
		tail -n 1 "$$tmp/$$name.log"; \
	done

# ---------------------------------------------------------------- static checks
C_FILES  := $(SRCS) $(sort $(wildcard tests/*/*.c bench/*.c))
TIDY_SRC ?= $(SRCS)

headers: ## compile each header alone
	$(Q)tests/deps build test
	$(Q)set -e; for h in $(HEADERS); do \
		printf '#include "%s"\n' "$$h" | $(CC) $(BASE_CFLAGS) -I. -Werror \
			-fsyntax-only -x c - || { echo "$$h does not stand alone" >&2; exit 1; }; \
	done
	$(call say,HEADERS,"$(words $(HEADERS)) stand alone")

format: ## format every C file
	$(Q)tests/deps lint
	$(Q)$(CLANG_FORMAT) -i $(C_FILES) $(HEADERS)

format-check: ## say which C files are not formatted
	$(Q)tests/deps lint
	$(Q)$(CLANG_FORMAT) --dry-run --Werror $(C_FILES) $(HEADERS)
	$(call say,FORMAT,"$(words $(C_FILES) $(HEADERS)) files")

tidy: ## clang-tidy (.clang-tidy says what, and why not the rest)
	$(Q)tests/deps build lint
	$(Q)printf '%s\n' $(TIDY_SRC) | xargs -P "$$(nproc)" -n 1 sh -c \
		'out=$$($(CLANG_TIDY) --quiet "$$0" -- -std=gnu11 $(subst ','\'',$(DEFS)) 2>&1); code=$$?; \
		printf "%s\n" "$$out" | grep -vE "^([0-9]+ warnings? .*|)$$"; exit $$code'
	$(call say,TIDY,"$(words $(TIDY_SRC)) files")

# Not variableScope: declarations stand at the top of a function. Not clarifyCalculation:
# "flags & BIT ? a : b" is clear. Not duplicateCondition: a ladder of "if (ret == 0)" is
# how start-up reads. Not unusedStructMember: keys are hashed whole. Two are mistaken: in
# sockpool.c recvmsg(2) fills what is read, in worker.c the mailbox keeps the memory.
cppcheck: ## cppcheck
	$(Q)tests/deps build lint
	$(Q)$(CPPCHECK) --quiet --std=c11 --enable=warning,style,performance,portability \
		--suppress=variableScope --suppress=clarifyCalculation \
		--suppress=duplicateCondition --suppress=unusedStructMember \
		--suppress=uninitvar:src/fwd/sockpool.c --suppress=memleak:src/fwd/worker.c \
		--library=tests/cppcheck.cfg --error-exitcode=1 -j "$$(nproc)" $(DEFS) $(SRCS)
	$(call say,CPPCHECK,"$(words $(SRCS)) files")

# ---------------------------------------------------------------- install
# Completions are where Fedora and most others look; Debian's zsh has its own place.
BASH_DIR ?= $(DATADIR)/bash-completion/completions
ZSH_DIR  ?= $(DATADIR)/zsh/site-functions
FISH_DIR ?= $(DATADIR)/fish/vendor_completions.d
MANUALS  := $(sort $(wildcard docs/*.1))
DOCS     := README.md CHANGELOG.md LICENSE $(sort $(wildcard docs/*.md))
EXAMPLES := $(sort $(shell find docs/examples -type f))
# The manuals of docs/ lie beside the README, so its links to them change.
IN_DOCS  := s,](docs/,](,g
INSTALLED = $(BINDIR)/fwd $(MANUALS:docs/%=$(MANDIR)/man1/%) $(BASH_DIR)/fwd $(ZSH_DIR)/_fwd \
	    $(FISH_DIR)/fwd.fish $(addprefix $(DOCDIR)/,$(notdir $(DOCS)) $(EXAMPLES:docs/%=%))

install: $(BUILD)/fwd ## install into DESTDIR and PREFIX (/usr/local)
	$(INSTALL) -D -m 755 $(BUILD)/fwd $(DESTDIR)$(BINDIR)/fwd
	$(INSTALL) -d $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(DOCDIR)
	$(INSTALL) -m 644 $(MANUALS) $(DESTDIR)$(MANDIR)/man1
	$(INSTALL) -D -m 644 docs/completions/fwd.bash $(DESTDIR)$(BASH_DIR)/fwd
	$(INSTALL) -D -m 644 docs/completions/_fwd $(DESTDIR)$(ZSH_DIR)/_fwd
	$(INSTALL) -D -m 644 docs/completions/fwd.fish $(DESTDIR)$(FISH_DIR)/fwd.fish
	$(INSTALL) -m 644 $(DOCS) $(DESTDIR)$(DOCDIR)
	sed -i '$(IN_DOCS)' $(DESTDIR)$(DOCDIR)/README.md
	set -e; for f in $(EXAMPLES); do \
		if [ -x $$f ]; then mode=755; else mode=644; fi; \
		$(INSTALL) -D -m $$mode $$f $(DESTDIR)$(DOCDIR)/$${f#docs/}; \
	done
	sed -i 's|/usr/local/bin|$(BINDIR)|' $(DESTDIR)$(DOCDIR)/examples/hooks.d/fwd.json

uninstall: ## remove what install put there
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	[ ! -d $(DESTDIR)$(DOCDIR) ] || find $(DESTDIR)$(DOCDIR) -depth -type d -empty -delete

dist: ## fwd-VERSION.tar.gz of what is committed
	$(Q)mkdir -p $(BUILD)
	$(Q)git archive --prefix=fwd-$(VERSION)/ -o $(BUILD)/fwd-$(VERSION).tar.gz HEAD
	$(call say,DIST,$(BUILD)/fwd-$(VERSION).tar.gz)

# Both are built from a copy, as any user; nothing is signed or installed.
deb: ## build/deb/fwd_VERSION_ARCH.deb and its sources, checked; lintian if there
	$(Q)tests/deps build package
	$(Q)packaging/build deb $(VERSION) $(BUILD)/deb
	$(Q)tests/package $(VERSION) $(BUILD)/deb/fwd_$(VERSION)_*.deb
	$(Q)! command -v lintian >/dev/null || \
		lintian --allow-root --fail-on error,warning $(BUILD)/deb/fwd_$(VERSION)_*.changes

rpm: ## build/rpm/fwd-VERSION-RELEASE.ARCH.rpm and its sources, checked
	$(Q)tests/deps build package
	$(Q)packaging/build rpm $(VERSION) $(BUILD)/rpm
	$(Q)tests/package $(VERSION) "$$(ls $(BUILD)/rpm/fwd-$(VERSION)-*.rpm | grep -v 'src.rpm$$')"

# ---------------------------------------------------------------- the rest
man-check: ## lint and render the manuals
	$(Q)tests/deps man
	$(Q)mandoc -Tlint -W warning $(MANUALS)
	$(call say,MAN,"$(MANUALS)")

clean: ## remove what was built
	rm -rf build build-*

help: ## this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | sort | \
		while IFS="$$(printf '\t')" read -r t d; do printf '  %-14s %s\n' "$$t" "$$d"; done
	@echo "V=1: show commands. CI=1: warnings are errors. CC=clang: another compiler."

.PHONY: all tests deps deps-dev demo check check-unit asan tsan fuzz headers format format-check tidy cppcheck \
	install uninstall dist deb rpm man-check clean help
.SECONDARY:

-include bench/bench.mk
-include $(shell [ -d $(BUILD) ] && find $(BUILD) -type f -name '*.d')
