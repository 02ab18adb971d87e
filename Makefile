# dtm: a distributed transaction manager inside PostgreSQL.
#
#   make                     build                (PG_CONFIG=... picks the server)
#   make install             install
#   make DTM_DEBUG=1         build with the crash points that the tests use
#   script/test              everything, on a private installation

EXTENSION = dtm
MODULE_big = dtm
DATA = dtm--1.0.sql
OBJS = $(sort $(patsubst %.c,%.o,$(wildcard src/*.c)))
PGFILEDESC = "dtm - distributed transactions inside PostgreSQL"

PG_CPPFLAGS = -I$(srcdir)/src $(shell curl-config --cflags) -I$(libpq_srcdir)
ifdef DTM_DEBUG
PG_CPPFLAGS += -DDTM_DEBUG
endif
PG_CFLAGS = -std=gnu99 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type -Wno-clobbered
SHLIB_LINK = $(shell curl-config --libs)
SHLIB_LINK_INTERNAL = $(libpq) -pthread

REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=dtm --inputdir=.
ISOLATION = $(patsubst specs/%.spec,%,$(sort $(wildcard specs/*.spec)))
ISOLATION_OPTS = --load-extension=dtm --inputdir=.

EXTRA_CLEAN = .build-as

# Bitcode serves JIT inlining, of which there is nothing here.
override with_llvm = no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Every object depends on every header, and on how it was to be made: there are
# few, and a stale object costs more.
BUILD_AS := $(DTM_DEBUG) $(PG_CONFIG) $(COPT)
$(shell echo '$(BUILD_AS)' | cmp -s - .build-as || echo '$(BUILD_AS)' > .build-as)
$(OBJS): $(wildcard $(srcdir)/src/*.h) .build-as
