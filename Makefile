# make demo       build the programs and watch them work, a kill -9 included
# make test       every test
# make lint       formatting, clippy and the documentation's links, warnings denied
# make bench      ratios against what one would otherwise run
# make soak       the long tests: more cases, crashes in a loop, random inputs
# make fuzz       random inputs alone, for MINUTES; what breaks something is kept in tests/corpus
# make install    programs, manual pages, completions under $(DESTDIR)$(PREFIX)

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo

# Built apart from khose: what that needs asks more of the libraries they share, and they would grow by a third.
SMALL    = kput kget kshard
PROGRAMS = $(SMALL) khose
# Random cases for each property, and minutes of crashing, in `make soak`.
CASES    ?= 20000
MINUTES  ?= 10

bindir  = $(DESTDIR)$(PREFIX)/bin
mandir  = $(DESTDIR)$(PREFIX)/share/man
bashdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir  = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
target  = $(or $(CARGO_TARGET_DIR),target)

.PHONY: build demo test lint bench soak fuzz install uninstall clean

build:
	$(CARGO) build --release --locked --no-default-features $(SMALL:%=--bin %)
	$(CARGO) build --release --locked --bin khose

demo:
	@sh tests/demo.sh

# Properties are tried on the same cases every time, so that a change is told from chance: `make soak` takes others.
SEED     ?= 20261124

# What a test had to leave out (no right to mount, no real input) it notes; cargo shows nothing of a test that passes.
test:
	@echo "== tests"
	@rm -f $(target)/test-notes
	PROPTEST_RNG_SEED=$(SEED) $(CARGO) test --locked --quiet
	@if [ -s $(target)/test-notes ]; then echo "== left out"; sort -u $(target)/test-notes; fi
	@echo "== all tests passed"

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --quiet

bench: build
	@sh benches/run.sh

soak:
	PROPTEST_CASES=$(CASES) KPIPE_CASES=3000 KPIPE_TEST_ROUNDS=150 KPIPE_SOAK_MINUTES=$(MINUTES) \
	  KPIPE_FUZZ_MINUTES=$(MINUTES) $(CARGO) test --locked -- --nocapture

fuzz:
	KPIPE_FUZZ_MINUTES=$(MINUTES) $(CARGO) test --locked --test it -- --nocapture corpus::random_changes

# Building belongs to the user, installing perhaps to root: `make build && sudo make install` compiles nothing as root.
install:
	@for p in $(PROGRAMS); do test -x $(target)/release/$$p || exec $(MAKE) build; done
	install -d $(bindir) $(mandir)/man1 $(bashdir) $(zshdir) $(fishdir)
	for p in $(PROGRAMS); do \
	  install -m 755 $(target)/release/$$p $(bindir)/$$p && \
	  install -m 644 man/$$p.1 $(mandir)/man1/$$p.1 && \
	  install -m 644 completions/bash/$$p $(bashdir)/$$p && \
	  install -m 644 completions/zsh/_$$p $(zshdir)/_$$p && \
	  install -m 644 completions/fish/$$p.fish $(fishdir)/$$p.fish || exit 1; \
	done
	for page in man/*.5; do \
	  test -f "$$page" || continue; \
	  install -d $(mandir)/man5 && install -m 644 "$$page" $(mandir)/man5/ || exit 1; \
	done

uninstall:
	for p in $(PROGRAMS); do \
	  rm -f $(bindir)/$$p $(mandir)/man1/$$p.1 $(bashdir)/$$p $(zshdir)/_$$p $(fishdir)/$$p.fish; \
	done
	rm -f $(mandir)/man5/kstream.5

clean:
	$(CARGO) clean
