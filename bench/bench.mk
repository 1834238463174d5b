# bench/bench.mk - the benchmark suite; included by the top Makefile
#
# BENCH_ARGS goes to bench/run.py: make bench BENCH_ARGS='--rounds 9 --only tcp_rr_64'

LOAD_SRCS := $(sort $(wildcard bench/*.c))
LOAD_OBJS := $(LOAD_SRCS:%.c=$(BUILD)/%.o)

$(BUILD)/bench/load: $(LOAD_OBJS)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(HARDEN_LD) $(LDFLAGS) -o $@ $^

bench-load: $(BUILD)/bench/load ## build the load generator
bench: $(BUILD)/fwd $(BUILD)/bench/load ## compare with every peer (minutes)
	$(Q)bench/run.py --build $(BUILD) $(BENCH_ARGS)
bench-quick: $(BUILD)/fwd $(BUILD)/bench/load ## every scenario and peer once (under a minute)
	$(Q)bench/run.py --build $(BUILD) --quick $(BENCH_ARGS)
bench-compare: ## what changed beyond noise: make bench-compare BASE=a.json NEW=b.json
	$(Q)bench/compare.py $(BASE) $(NEW)
.PHONY: bench-load bench bench-quick bench-compare
