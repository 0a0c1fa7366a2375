# perceiverd - `make` explains itself. Objects go to build/, nothing else is written in the tree.

PREFIX  ?= /usr/local
DESTDIR ?=
PORT    ?= 8080
ONCE    ?=
# make SAN=address,undefined or SAN=thread builds into a folder of its own.
SAN     ?=
comma   := ,
B       := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
PYTHON  ?= /usr/bin/python3

VERSION := 0.1.0
COMMIT  := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

CC      ?= gcc
OPT     ?= -O2
# Instrumented code makes the compiler see what is not there: its warnings count in plain builds.
WARN    := -Wall -Wextra $(if $(SAN),-Wno-format-overflow -Wno-maybe-uninitialized,-Werror)
CFLAGS  ?= -g
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -I. $(WARN) $(OPT) -fPIC -fvisibility=hidden -ffp-contract=off -pthread \
             $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer) $(CFLAGS)
LDFLAGS += -pthread $(if $(SAN),-fsanitize=$(SAN))

PKGS    := openblas jansson spng libjpeg libzip sndfile samplerate
SRV_PKGS := libuv libmicrohttpd libsystemd inih zlib libsodium
# Asked once, and not before it is needed: on a bare machine the packages come first.
once = $(eval $(1) := $(shell $(2)))$($(1))
LIB_LIBS = $(call once,LIB_LIBS,pkg-config --libs $(PKGS) && echo -lm)
SRV_LIBS = $(call once,SRV_LIBS,pkg-config --libs $(SRV_PKGS))
CTL_LIBS = $(call once,CTL_LIBS,pkg-config --libs libcurl)
PKG_CFLAGS = $(call once,PKG_CFLAGS,pkg-config --cflags $(PKGS) $(SRV_PKGS) libcurl)

LIB_SRC   := $(wildcard lib/*.c lib/*/*.c)
PROTO_SRC := $(wildcard proto/*.c)
CTL_SRC   := $(wildcard server/ctl*.c server/perceiverctl.c)
MAIN_SRC  := server/perceiverd.c
SRV_SRC   := $(filter-out $(CTL_SRC) $(MAIN_SRC),$(wildcard server/*.c))
TEST_SRC  := $(wildcard tests/unit/*/test_*.c tests/unit/*/*/test_*.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
LIB_OBJ   := $(call obj,$(LIB_SRC)) $(B)/obj/lib/layout/schema_json.o
PROTO_OBJ := $(call obj,$(PROTO_SRC)) $(B)/obj/proto/openapi_json.o
SRV_OBJ   := $(call obj,$(SRV_SRC))
CTL_OBJ   := $(call obj,$(CTL_SRC))
TESTS     := $(patsubst tests/unit/%.c,$(B)/tests/%,$(TEST_SRC))

.DEFAULT_GOAL := help
.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: build
build: packages-build ## build perceiverd, perceiverctl and libperceiver into build/
	+@$(MAKE) --no-print-directory compile

.PHONY: compile
compile: $(B)/perceiverd $(B)/perceiverctl $(B)/libperceiver.a $(B)/libperceiver.so $(B)/include/perceiver.h

# make V=1 prints the commands; otherwise each step prints what it makes.
Q = $(if $(V),,@echo '  $(if $(filter %.o,$@),cc  ,make)' $@;)

# ---- one rule for each kind of file -----------------------------------------------------------

# One file per instruction set gets that instruction set; everything else stays portable.
$(B)/obj/lib/kernel/%_avx2.o: ISA = -mavx2 -mfma -mf16c
$(B)/obj/tests/unit/lib/kernel/%_avx2.o: ISA = -mavx2 -mfma
$(B)/obj/lib/kernel/%_avx512.o: ISA = -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma
# Loops over tokens and lanes that any instruction set has vectors for.
$(patsubst %,$(B)/obj/lib/attention/%.o,token_stats encode_tables encode_factored): ISA = -O3 -fno-math-errno

$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ISA) $(PKG_CFLAGS) -MMD -MP -c $< -o $@

# Rebuild everything when flags change, and what prints the version when the commit does.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(ALL_CFLAGS)' > $@
$(B)/version.h: FORCE
	@mkdir -p $(@D)
	@echo '#define PCV_VERSION "$(VERSION) ($(COMMIT))"' | cmp -s - $@ || \
	 echo '#define PCV_VERSION "$(VERSION) ($(COMMIT))"' > $@
.PHONY: FORCE
FORCE:
$(B)/obj/lib/base/version.o: $(B)/version.h
$(B)/obj/lib/base/version.o: ISA = -I$(B)

$(B)/openapi.c: proto/openapi.yaml proto/openapi2c.py
	@mkdir -p $(@D)
	$(Q)$(PYTHON) proto/openapi2c.py proto/openapi.yaml > $@.tmp && mv $@.tmp $@
$(B)/obj/proto/openapi_json.o: $(B)/openapi.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

$(B)/schema.c: lib/layout/perceiver.schema.json lib/layout/schema2c.py
	@mkdir -p $(@D)
	$(Q)$(PYTHON) lib/layout/schema2c.py lib/layout/perceiver.schema.json > $@.tmp && mv $@.tmp $@
$(B)/obj/lib/layout/schema_json.o: $(B)/schema.c $(B)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

$(B)/libperceiver.a: $(LIB_OBJ)
	$(Q)ar rcs $@.$$$$ $^ && mv $@.$$$$ $@
$(B)/libperceiver.so: $(LIB_OBJ)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libperceiver.so.0 -Wl,-z,defs $^ $(LIB_LIBS) -o $@
# The one public header: what lib/perceiver.h includes of lib/ is written into it.
$(B)/include/perceiver.h: lib/perceiver.h lib/base/err.h lib/base/tensor.h lib/load/safetensors.h
	@mkdir -p $(@D)
	$(Q)awk '/^#include "lib\//{gsub(/"/,"",$$2); while((getline l < $$2) > 0) if (l !~ /^#include "lib\//) print l; next} {print}' $< > $@

$(B)/perceiverd: $(B)/obj/server/perceiverd.o $(SRV_OBJ) $(PROTO_OBJ) $(B)/libperceiver.a
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LIBS) $(SRV_LIBS) -o $@
$(B)/perceiverctl: $(CTL_OBJ) $(PROTO_OBJ) $(B)/libperceiver.a
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LIBS) $(CTL_LIBS) -o $@

# Unit tests: one program for each test_*.c, linked with everything below main().
$(B)/tests/%: $(B)/obj/tests/unit/%.o $(SRV_OBJ) $(filter-out %/perceiverctl.o,$(CTL_OBJ)) $(PROTO_OBJ) \
              $(B)/libperceiver.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LIBS) $(SRV_LIBS) $(CTL_LIBS) -lcmocka -o $@
# The tests of panels once more, where there is no AVX-512: with panel_avx512.c's intrinsics in simde's
# C, which AVX2 is enough for. Unrolled and optimised it would keep the compiler for half a minute.
EMULATED := $(patsubst %,$(B)/tests/lib/kernel/%_emulated,test_panel test_panel_attention test_panel_tokens)
$(B)/obj/lib/kernel/%_emulated.o: ISA = -mavx2 -mfma -DSIMDE_ENABLE_NATIVE_ALIASES -include simde/x86/avx512.h -Wno-psabi -O0
$(B)/obj/tests/unit/lib/kernel/%_emulated.o: ISA = -DAVX512_EMULATED
$(B)/obj/%_emulated.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ISA) -MMD -MP -c $< -o $@
$(EMULATED): $(B)/tests/%: $(B)/obj/tests/unit/%.o $(B)/obj/lib/kernel/panel_avx512_emulated.o $(B)/libperceiver.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LIBS) -lcmocka -o $@
.SECONDARY:
.PHONY: tests-compile
tests-compile: $(TESTS) $(if $(filter x86_64,$(shell uname -m)),$(EMULATED))

# The HTTP layer alone, for the tests of its traps.
$(B)/httpd_fixture: $(B)/obj/tests/http/httpd_fixture.o $(B)/obj/tests/http/httpd_stream.o $(SRV_OBJ) $(PROTO_OBJ) $(B)/libperceiver.a
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LIBS) $(SRV_LIBS) -o $@

# Golden models: weights follow from tensors.json. They are the same for every kind of build.
GOLDEN := $(patsubst tests/%/tensors.json,build/%/model.safetensors,$(wildcard tests/golden/*/tensors.json))
build/golden/%/model.safetensors: tests/golden/%/tensors.json tests/golden/%/config.json tests/golden/forge.py
	$(Q)$(PYTHON) tests/golden/forge.py tests/golden/$* $(@D)
# Checkpoints as DeepMind pickles them: made by rule, or as they were saved.
build/golden/%/model.pystate: tests/golden/%/haiku.json tests/golden/%/config.json tests/golden/make_deepmind.py
	@mkdir -p $(@D)
	$(Q)$(PYTHON) tests/golden/make_deepmind.py tests/golden/$* $(@D)
SAVED := $(notdir $(patsubst %/,%,$(dir $(wildcard tests/golden/*/*.pickle tests/golden/*/*.pystate))))
$(SAVED:%=build/golden/%/saved): build/golden/%/saved: tests/golden/%/config.json
	@mkdir -p $(@D)
	@cp tests/golden/$*/config.json tests/golden/$*/*.p* $(@D) && touch $@
.PHONY: golden
golden: $(GOLDEN) $(SAVED:%=build/golden/%/saved) \
        $(patsubst tests/%/haiku.json,build/%/model.pystate,$(wildcard tests/golden/*/haiku.json))

$(B)/sgemm: tests/bench/sgemm.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) $< $(LIB_LIBS) -o $@

# ---- what a person asks for ---------------------------------------------------------------------

.PHONY: demo
demo: packages-demo ## build, show the shipped model a picture, a sound, a sentence (ONCE=1 stops after, PORT=8080)
	+@$(MAKE) --no-print-directory compile
	@B=$(B) PORT=$(PORT) ONCE=$(ONCE) deploy/demo.sh

.PHONY: test
test: packages-all ## build and pass every test
	+@$(MAKE) --no-print-directory compile tests-compile golden $(B)/httpd_fixture $(B)/venv/ok
	@B=$(B) tests/run

.PHONY: bench
bench: packages-all build $(B)/sgemm ## measure this machine: ratios beside targets (also build/bench.json)
	@B=$(B) $(PYTHON) tests/bench/bench.py --json $(B)/bench.json

.PHONY: check
check: packages-all ## layers, headers, tables, formats: what keeps the tree in shape
	+@$(MAKE) --no-print-directory compile compile_commands.json
	@B=$(B) tests/check/run

.PHONY: asan
asan: ## every test under address and undefined behaviour sanitizers
	+@$(MAKE) SAN=address,undefined test

.PHONY: tsan
tsan: ## every test under the thread sanitizer
	+@$(MAKE) SAN=thread test

.PHONY: format
format: ## clang-format every C file
	clang-format -i $(shell git ls-files '*.c' '*.h')

.PHONY: install
install: build ## install programs, library, header, units, manual pages (PREFIX, DESTDIR)
	@B=$(B) PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' deploy/install.sh

.PHONY: packages packages-build packages-demo packages-all
packages: ## print the Debian packages that build, demo and tests need
	@sed -e 's/#.*//' -e '/^ *$$/d' -e 's/ *$$//' deploy/packages.txt
packages-build:
	@deploy/install-packages build
packages-demo:
	@deploy/install-packages demo
packages-all:
	@deploy/install-packages all

.PHONY: clean
clean: ## remove build/
	rm -rf build compile_commands.json

# ---- tests' needs -----------------------------------------------------------------------------------

# Python packages of the tests, from PyPI, beside Debian's.
$(B)/venv/ok: tests/requirements.txt
	@rm -rf $(@D)
	$(PYTHON) -m venv --system-site-packages $(@D)
	$(@D)/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

compile_commands.json: Makefile FORCE
	@$(PYTHON) tests/check/compile_commands.py '$(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) -I$(B)' > $@.tmp && \
	 { cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@; }

-include $(wildcard $(B)/obj/*/*.d $(B)/obj/*/*/*.d $(B)/obj/*/*/*/*.d $(B)/obj/*/*/*/*/*.d)
