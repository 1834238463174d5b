# SPDX-License-Identifier: Apache-2.0
#
# fwd - build, check, install. `make help` lists the targets.

VERSION  := 0.1.0
PREFIX   ?= /usr/local
BINDIR   ?= $(PREFIX)/bin
MANDIR   ?= $(PREFIX)/share/man
DATADIR  ?= $(PREFIX)/share
DESTDIR  ?=

CC       ?= cc
PKG      ?= pkg-config
BUILD    ?= build
CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wconversion \
	    -Wno-sign-conversion -Wvla $(if $(CI),-Werror)
DEFS     := -D_GNU_SOURCE -DFWD_VERSION='"$(VERSION)"' -Isrc -Iinclude
LIBS     := liburing libmnl
BASE_CFLAGS = -std=gnu11 -pthread $(WARN) $(DEFS) $(shell $(PKG) --cflags $(LIBS))
LDLIBS    = $(shell $(PKG) --libs $(LIBS)) -pthread
HARDEN   ?= -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
HARDEN_LD ?= -pie -Wl,-z,relro,-z,now

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
TEST_LIBS = $(shell $(PKG) --libs criterion)

# ---------------------------------------------------------------- the program
all: $(BUILD)/fwd ## build build/fwd

$(BUILD)/fwd: $(OBJS)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libfwd.a: $(LIB_OBJS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(HARDEN) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---------------------------------------------------------------- tests
$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(UNIT_OBJ) $(BUILD)/libfwd.a
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(TEST_LIBS)

$(BUILD)/tests/integ/test_%: $(BUILD)/tests/integ/test_%.o $(HELP_OBJ) $(BUILD)/libfwd.a
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(TEST_LIBS)

$(BUILD)/tests/kernel/%: $(BUILD)/tests/kernel/%.o
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# A fuzz target includes the module that it fuzzes.
FUZZ_CC ?= clang
FUZZ_SECONDS ?= 30
$(BUILD)/tests/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(SRCS) $(HEADERS)
	$(call say,FUZZ,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(FUZZ_CC) -std=gnu11 $(DEFS) -g -O1 -fsanitize=fuzzer,address,undefined -o $@ $<

tests: $(BUILD)/fwd $(UNIT) $(INTEG) $(PROBES) ## build every test

-include $(shell [ -d $(BUILD) ] && find $(BUILD) -name '*.d')
.SECONDARY:
