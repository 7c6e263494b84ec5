/*
 * One vault: rows, two anchors with their share trees, two custodians of which one may be
 * stale, and a store that withholds. README.md maps every name here to the code's.
 *
 * Every option of a process is one step of the code. A crash can come before each of them.
 * Mutants are -DM_..., limits that the design names are -DL_...; model_test.go runs all.
 */

#ifndef EPOCHS
#define EPOCHS 3        /* epochs of the user, from 1 */
#endif
#ifndef VERSIONS
#define VERSIONS 1      /* writes of the one slot */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef TAKEOVERS
#define TAKEOVERS 0     /* times that the lease runs out and the other custodian takes it */
#endif
#ifndef WITHHELD
#define WITHHELD 0      /* times that the store keeps an object back from a start */
#endif
#ifndef EVICTIONS
#define EVICTIONS 0
#endif
#ifndef OTHERS
#define OTHERS 0        /* 1: another user opens a first epoch meanwhile */
#endif

#define A 2             /* anchors */
#define R 6             /* roots of an anchor that anybody may still know; 0 = none */
#define bit(n) (1 << (n))

/* A set of shares is a byte: bit 0 the other user's share, bit e the one of epoch e. */
#define OTHER 0

/* ---- the chain: package rules, Apply ---- */

byte top, draining;             /* User row: the active epoch (a reserved word here) and the draining one */
byte erased;                    /* EpochRow.Erased of the draining epoch: a bit for each anchor */
byte ptr, ver;                  /* Pointer row: its epoch and version; 0 = none */
bool other;                     /* the other user's epoch 1 is open */
typedef AnchorRow { byte gen, root, term, keeper; bool leased, live };
AnchorRow row[A];

/* Statements that were signed once. The relay and whoever listens may deliver each of them
 * at any time and as often as they like: delay, reorder, repeat and drop are all in that. */
byte said_open;                 /* OpenEpoch: a bit for each epoch; OTHER is the other user's */
byte said_register[VERSIONS+1]; /* RegisterBlob: by version, a bit for each epoch */
byte said_move[VERSIONS+1];     /* RotateBlobs: by version, a bit for each epoch moved to */
typedef Said { byte commit[2], term[2]; byte epoch[2], gen[2], dterm[2] };
Said said[A];                   /* CommitTree (a root) and DestroyEpoch: the newest of each custodian */

/* ---- the store and the anchors ---- */

byte obj[VERSIONS+1];           /* users' objects: by version, a bit for each epoch sealed under */
typedef Roots {
	byte held;                  /* what the anchor holds: a bit for each root */
	byte gen[R];
	byte index[R];              /* shares in the index and shards of a root; 0 also when none */
	byte records[R];            /* shares in records under a root */
	byte there;                 /* roots whose objects an honest store still gives */
};
Roots tree[A];
/* Whoever kept every byte has index and records of all roots, swept or not. */

/* ---- custodians ---- */

mtype = {
	LEASES, SORT, LOAD, RUN,                        /* Keeper.Open; eraser.run */
	DLEASE, ERASE, COMMIT, LIVE, WRITE, STAGE, CHAIN, AWAIT, DESTROY, FORGET, SWEEP, STATEMENT, SHOWN, EMPTY,
	DOWN, STOPPED,                                  /* a crash, an end that its operator looks after */
	IDLE, SHARE, SECOND, REMEMBER, MADE, OPENED,    /* Jobs.make, Tree.Put */
	CARRY, CHECK, MOVED, PROVEN,                    /* Jobs.move */
	SEAL, REGISTER, SETTLE                          /* Server.write */
};
typedef Memory {                /* erasure.Tree */
	byte now, next, old;        /* generations, by root */
	byte shares, marked, erasing;
	bool fresh, lost;           /* fresh: now.number > opened */
};
typedef Custodian {
	Memory t[A];
	mtype at; byte i, epoch;    /* the eraser, its anchor, the epoch it ends */
	mtype job; byte j, share, mver, mto; /* the jobs: anchor, share to put, version and epoch to move to */
};
Custodian c[2];
byte current;                   /* the custodian that the operator asks; the other one may be stale */
byte acked;                     /* newest version a client was told of */
mtype writing; byte wv, we;     /* the write under way */
byte crashes, takeovers, withheld, evictions;
bool calm;                      /* faults are over */

#define me c[k]
#define mem c[k].t[c[k].i]
#define its tree[c[k].i]
#define its_row row[c[k].i]
#define putmem c[k].t[c[k].j]
#define puttree tree[c[k].j]
#define open(k) (c[k].at != LEASES && c[k].at != SORT && c[k].at != LOAD && c[k].at != DOWN && c[k].at != STOPPED)
#define putting(n) (me.j == n && (me.job == SECOND || me.job == REMEMBER))
#define live_set ((top -> bit(top) : 0) | (draining && ptr == draining -> bit(draining) : 0) | (other -> bit(OTHER) : 0))
/* Tree.checkLive and Tree.Erased */
#ifdef M_NO_LIVE_CHECK
#define live_missing false
#else
#define live_missing ((live_set & ~mem.shares) || (live_set & mem.erasing))
#endif
#if defined(M_DESTROY_BEFORE_ERASE)
#define tree_erased(n) true
#elif defined(M_ERASED_UNPROVEN)
#define tree_erased(n) (!row[n].live || !(me.t[n].shares & bit(me.epoch)))
#else
#define tree_erased(n) (!row[n].live || (me.t[n].fresh && !(me.t[n].shares & bit(me.epoch))))
#endif
#ifdef M_NOT_DRAINED
#define drained true
#else
#define drained (ptr != draining)
#endif
#ifdef M_OPEN_WHILE_DRAINING
#define no_draining true
#else
#define no_draining (!draining)
#endif
#define both (row[0].live && row[1].live)

/* What a root that an anchor holds opens for whoever kept everything. */
#define opens(n,r) ((tree[n].held & bit(r)) -> tree[n].index[r] | tree[n].records[r] : 0)
#define reach(n) (opens(n,1) | opens(n,2) | opens(n,3) | opens(n,4) | opens(n,5))

/* ---- invariants: one state machine of docs/spec/rules.md and erasure.md ---- */

#define P_POINTER   (ptr == 0 || ptr == top || ptr == draining)
#define P_TWO       (draining == 0 || draining + 1 == top)
#define share_kept(n,e) (!row[n].live || (opens(n,row[n].root) & bit(e)))
#define P_READABLE  (acked == 0 || (ver >= acked && (obj[ver] & bit(ptr)) && share_kept(0,ptr) && share_kept(1,ptr)))
#define P_OTHER     (!other || (share_kept(0,OTHER) && share_kept(1,OTHER)))
#define root_kept(n) (!row[n].live || (tree[n].held & bit(row[n].root)))
#define P_ROOT      (root_kept(0) && root_kept(1))
#define said_erased(n) ((draining && (erased & bit(n))) -> bit(draining) : 0)
#define gone        (((bit(top) - 1) & ~1) & ~(draining -> bit(draining) : 0))
#define P_ERASED(n) (!row[n].live || !(reach(n) & (gone | said_erased(n))))
#define P_ACTIVE    (top == 0 || (share_kept(0,top) && share_kept(1,top)))

proctype Invariants() {
end:	do
	:: atomic { !P_POINTER -> printf("VIOLATED: a pointer into an epoch that is not live\n"); assert(P_POINTER) }
	:: atomic { !P_TWO -> printf("VIOLATED: at most one active and one draining\n"); assert(P_TWO) }
	:: atomic { P_ROOT && !(P_READABLE && P_ACTIVE && P_OTHER) -> printf("VIOLATED: an acknowledged credential or a live epoch is unreadable\n"); assert(false) }
	:: atomic { !P_ROOT -> printf("VIOLATED: the root that opens was destroyed\n"); assert(P_ROOT) }
	:: atomic { !(P_ERASED(0) && P_ERASED(1)) -> printf("VIOLATED: called erased, and still reachable\n"); assert(false) }
	od
}

/* ---- helpers without a step of their own ---- */

/* fresh_root takes the lowest root that nobody knows and that no statement names. */
inline fresh_root(N_, G_, OUT_) {
	OUT_ = 1;
	do
	:: OUT_ < R && ((tree[N_].held & bit(OUT_)) || row[N_].root == OUT_ || said[N_].commit[0] == OUT_ || said[N_].commit[1] == OUT_ ||
		c[0].t[N_].now == OUT_ || c[0].t[N_].next == OUT_ || c[0].t[N_].old == OUT_ ||
		c[1].t[N_].now == OUT_ || c[1].t[N_].next == OUT_ || c[1].t[N_].old == OUT_) -> OUT_++
	:: else -> break
	od;
	assert(OUT_ < R);
	tree[N_].gen[OUT_] = G_; tree[N_].index[OUT_] = 0; tree[N_].records[OUT_] = 0; tree[N_].there = tree[N_].there & ~bit(OUT_)
}

/* tidy drops what is closed for good, so that equal states are one. */
byte tmp;
inline tidy(N_) {
	tmp = 1;
	do
	:: tmp < R ->
		if
		:: tree[N_].gen[tmp] && !(tree[N_].held & bit(tmp)) && row[N_].root != tmp &&
			c[0].t[N_].now != tmp && c[0].t[N_].next != tmp && c[0].t[N_].old != tmp &&
			c[1].t[N_].now != tmp && c[1].t[N_].next != tmp && c[1].t[N_].old != tmp ->
			tree[N_].gen[tmp] = 0; tree[N_].index[tmp] = 0; tree[N_].records[tmp] = 0;
			tree[N_].there = tree[N_].there & ~bit(tmp);
			if
			:: said[N_].commit[0] == tmp -> said[N_].commit[0] = 0; said[N_].term[0] = 0
			:: said[N_].commit[1] == tmp -> said[N_].commit[1] = 0; said[N_].term[1] = 0
			:: else
			fi
		:: else
		fi;
		tmp++
	:: else -> break
	od;
	tmp = 0
}

inline forget(K_, N_) {
	c[K_].t[N_].now = 0; c[K_].t[N_].next = 0; c[K_].t[N_].old = 0; c[K_].t[N_].shares = 0; c[K_].t[N_].marked = 0;
	c[K_].t[N_].erasing = 0; c[K_].t[N_].fresh = 0; c[K_].t[N_].lost = 0; tidy(N_)
}

/* down: memory goes, what is durable stays. The operator starts the custodian that it asks. */
inline down() {
	forget(k, 0); forget(k, 1);
	me.at = (k == current -> LEASES : STOPPED); me.i = 0; me.epoch = 0;
	me.job = IDLE; me.j = 0; me.share = 0; me.mver = 0; me.mto = 0;
	if
	:: k == current && (writing == SEAL || writing == SETTLE) -> writing = IDLE; wv = 0; we = 0
	:: else /* after SETTLE the client has heard "unknown", or nothing */
	fi
}

/* failed: eraser.run logs it and tries again. A custodian that has lost the leases ends; one
 * whose trees are no longer those of the chain is started again by its operator. */
inline failed() { me.at = (k != current -> DOWN : RUN); me.i = 0 }
inline diverged() { me.at = DOWN; me.i = 0 }

inline next_anchor(AGAIN_, DONE_) {
	if
	:: me.i + 1 < A -> me.i++; me.at = AGAIN_
	:: else -> me.i = 0; me.at = DONE_
	fi
}

/* only_root: Anchor.Destroy refuses the only root. */
#define only_root(n,r) ((tree[n].held & ~bit(r)) == 0)

/* ---- Keeper.Open and eraser.run ---- */

proctype Eraser(byte k) {
	byte r, s;
	do
	/* Keeper.leases: TakeKeeper for each anchor in use */
	:: atomic { me.at == LEASES && k == current && (!its_row.live || !its_row.leased || its_row.keeper == k) ->
		if
		:: its_row.live && its_row.keeper != k -> its_row.keeper = k; its_row.term++; its_row.leased = true
		:: its_row.live && its_row.keeper == k -> its_row.leased = true /* renewed, or still held */
		:: else
		fi;
		next_anchor(LEASES, SORT) }

	/* erasure.Open, sortRoots: the chain's generation picks the root */
	:: atomic { me.at == SORT ->
		if
		:: !its_row.live -> next_anchor(SORT, RUN)
		:: else ->
			s = 0;
			if
			:: !calm && withheld < WITHHELD -> withheld++; s = 1 /* an index that the store keeps back */
			:: true
			fi;
			mem.now = 0; mem.next = 0; mem.old = 0; mem.lost = false;
			r = 1;
			do
			:: r < R ->
				if
				:: !(its.held & bit(r))
				:: (its.held & bit(r)) && r == its_row.root && s != 1 -> mem.now = r
				:: (its.held & bit(r)) && r != its_row.root && s != 1 && !(its.there & bit(r)) -> mem.lost = true
				:: (its.held & bit(r)) && r != its_row.root && s != 1 && (its.there & bit(r)) ->
					if
					:: its.gen[r] == its_row.gen + 1 -> mem.next = r
					:: its.gen[r] + 1 == its_row.gen -> mem.old = r
					:: its.gen[r] == its_row.gen -> s = 2 /* ErrDiverged */
					:: else -> mem.lost = true
					fi
				:: (its.held & bit(r)) && s == 1 -> /* which of two is withheld */
					if
					:: r == its_row.root -> mem.now = r; s = 3
					:: r == its_row.root -> s = 2 /* ErrNoRoot */
					:: r != its_row.root -> mem.lost = true
					fi
				:: (its.held & bit(r)) && s > 1
				fi;
				r++
			:: else -> break
			od;
			r = 0;
			if
			:: mem.now == 0 || s == 2 -> forget(k, me.i) /* Open fails and is called again */
			:: else -> me.at = LOAD
			fi;
			s = 0
		fi }

	/* load, salvage, lookAhead. A record that is withheld is passed over. */
	:: atomic { me.at == LOAD ->
		s = its.index[mem.now] | its.records[mem.now];
		if
		:: !calm && withheld < WITHHELD && (its.records[mem.now] & ~its.index[mem.now]) ->
			withheld++; s = its.index[mem.now]
		:: true
		fi;
		mem.shares = s;
		if
		:: mem.old -> /* salvage(old, now) */
			s = (its.there & bit(mem.old) -> its.records[mem.old] : 0) & ~mem.shares & ~gone;
			its.records[mem.now] = its.records[mem.now] | s;
			mem.shares = mem.shares | s
		:: else
		fi;
		if
		:: mem.next ->
#ifndef M_NO_SALVAGE
			s = its.records[mem.now] & mem.shares & ~(its.index[mem.next] | its.records[mem.next]) & ~gone;
			its.records[mem.next] = its.records[mem.next] | s;
#endif
			s = its.index[mem.next] | its.records[mem.next];
			mem.erasing = mem.shares & ~s;
			mem.shares = mem.shares | s
		:: else
		fi;
		mem.fresh = false; s = 0;
		next_anchor(SORT, RUN) }

	/* eraser.job: the rows say that the epoch is drained, and the grace is over */
	:: atomic { me.at == RUN && draining && drained ->
		me.epoch = draining; me.i = 0; me.at = DLEASE }

	/* destroy.lease */
	:: atomic { me.at == DLEASE ->
		if
		:: its_row.live && (its_row.keeper != k || !its_row.leased) ->
			if
			:: its_row.leased -> failed()
			:: k != current -> failed()
			:: else -> its_row.keeper = k; its_row.term++; its_row.leased = true; next_anchor(DLEASE, ERASE)
			fi
		:: else -> next_anchor(DLEASE, ERASE)
		fi }

	/* destroy.erase: Tree.Erase in every tree, unless all have erased it */
	:: atomic { me.at == ERASE ->
		if
		:: tree_erased(0) && tree_erased(1)
		:: else ->
			me.t[0].marked = me.t[0].marked | bit(me.epoch);
			me.t[1].marked = me.t[1].marked | bit(me.epoch)
		fi;
#ifdef M_DESTROY_BEFORE_ERASE
		me.at = STATEMENT
#else
		me.at = COMMIT
#endif
		}

	/* Tree.Commit: retireOld, then a commit that was cut short, then begin */
	:: atomic { me.at == COMMIT && !putting(me.i) ->
		if
		:: !its_row.live -> next_anchor(COMMIT, STATEMENT)
		:: its_row.live && mem.lost -> diverged() /* the index comes back, or the anchor is evicted */
		:: its_row.live && !mem.lost && mem.old ->
#ifdef M_NO_RETIRE
			mem.old = 0
#else
			if
			:: live_missing -> diverged()
			:: else ->
				if
				:: only_root(me.i, mem.old)
				:: else -> its.held = its.held & ~bit(mem.old)
				fi;
				mem.old = 0; tidy(me.i)
			fi
#endif
		:: its_row.live && !mem.lost && !mem.old && mem.next ->
#ifdef M_NO_FINISH
			mem.next = 0; mem.erasing = 0; failed()
#else
			if
			:: live_missing -> diverged()
			:: else -> me.at = STAGE
			fi
#endif
		:: its_row.live && !mem.lost && !mem.old && !mem.next &&
		   mem.marked == 0 && (its.records[mem.now] & ~its.index[mem.now]) == 0 ->
			me.at = SWEEP
		:: its_row.live && !mem.lost && !mem.old && !mem.next &&
		   (mem.marked || (its.records[mem.now] & ~its.index[mem.now])) ->
#ifdef M_INDEX_IN_PLACE
			mem.shares = mem.shares & ~mem.marked;
			its.index[mem.now] = its.index[mem.now] & mem.shares; /* the index is written over; the store kept the old one */
			mem.marked = 0; mem.fresh = true; me.at = SWEEP
#else
			fresh_root(me.i, its.gen[mem.now] + 1, r);
			mem.next = r; mem.erasing = mem.marked; mem.marked = 0; r = 0;
			me.at = LIVE
#endif
		fi }

	/* commit: check live shares; the row is still this tree's */
	:: atomic { me.at == LIVE ->
		if
		:: live_missing -> mem.next = 0; mem.erasing = 0; tidy(me.i); diverged()
		:: !live_missing && its_row.root != mem.now -> mem.next = 0; tidy(me.i); diverged()
		:: !live_missing && its_row.root == mem.now -> me.at = WRITE
		fi }

	/* commit: write shards, write index, read index back */
	:: atomic { me.at == WRITE ->
		its.index[mem.next] = mem.shares & ~mem.erasing;
		its.there = its.there | bit(mem.next);
#ifdef M_STAGE_AFTER_COMMIT
		me.at = CHAIN
#else
		me.at = STAGE
#endif
		}

	/* commit: stage root. An anchor takes no third one. */
	:: atomic { me.at == STAGE ->
		if
		:: (its.held & bit(mem.next))
		:: !(its.held & bit(mem.next)) && (its.held == bit(mem.now)
#ifdef L_LATE_STAGE
			|| its.held == bit(its_row.root)
#endif
			) -> its.held = its.held | bit(mem.next)
		:: else -> diverged(); goto staged
		fi;
#ifdef M_STAGE_AFTER_COMMIT
		me.at = DESTROY;
#else
#ifdef M_ROOT_BEFORE_CHAIN
		its.held = its.held & ~bit(mem.now);
#endif
		me.at = CHAIN;
#endif
staged:		skip }

	/* commit: commit on the chain */
	:: atomic { me.at == CHAIN ->
		if
		:: its_row.root == mem.next -> me.at = AWAIT
		:: its_row.root == mem.now ->
			said[me.i].commit[k] = mem.next; said[me.i].term[k] = its_row.term;
			me.at = AWAIT
		:: its_row.root != mem.next && its_row.root != mem.now -> diverged()
		fi }
	:: atomic { me.at == AWAIT && (its_row.root != mem.now || its_row.keeper != k) ->
		if
#ifdef M_STAGE_AFTER_COMMIT
		:: its_row.root == mem.next -> me.at = STAGE
#else
		:: its_row.root == mem.next -> me.at = DESTROY
#endif
		:: else -> diverged()
		fi }

	/* commit: destroy old root, look whether it is gone */
	:: atomic { me.at == DESTROY ->
		if
		:: only_root(me.i, mem.now)
		:: else -> its.held = its.held & ~bit(mem.now)
		fi;
		if
		:: its.held == bit(mem.next) -> me.at = FORGET
		:: else -> diverged()
		fi }

	/* commit: forget keys, after the puts that are under way */
	:: atomic { me.at == FORGET && !putting(me.i) ->
		mem.shares = mem.shares & ~mem.erasing;
		mem.now = mem.next; mem.next = 0; mem.erasing = 0; mem.fresh = true;
		tidy(me.i); me.at = COMMIT }

	/* commit: delete old objects */
	:: atomic { me.at == SWEEP ->
		its.there = its.there & bit(mem.now);
		next_anchor(COMMIT, STATEMENT) }

	/* destroy.statement: tell, if Tree.Erased says so; one custodian keeps all anchors */
	:: atomic { me.at == STATEMENT ->
		if
		:: !its_row.live || draining != me.epoch || (erased & bit(me.i)) -> next_anchor(STATEMENT, EMPTY)
		:: else ->
			if
			:: tree_erased(me.i) ->
				said[me.i].epoch[k] = me.epoch; said[me.i].gen[k] = its_row.gen; said[me.i].dterm[k] = its_row.term;
				me.at = SHOWN
			:: else -> failed()
			fi
		fi }
	:: atomic { me.at == SHOWN && (draining != me.epoch || (erased & bit(me.i)) || !its_row.live ||
			its_row.keeper != k || said[me.i].gen[k] != its_row.gen) ->
		if
		:: draining != me.epoch || (erased & bit(me.i)) || !its_row.live -> next_anchor(STATEMENT, EMPTY)
		:: else -> failed()
		fi }

	/* destroy.empty */
	:: atomic { me.at == EMPTY ->
		if
		:: draining != me.epoch ->
			obj[0] = obj[0] & ~bit(me.epoch); obj[1] = obj[1] & ~bit(me.epoch);
#if VERSIONS > 1
			obj[2] = obj[2] & ~bit(me.epoch);
#endif
			me.at = RUN; me.epoch = 0
		:: else -> failed()
		fi }
	:: atomic { me.at == DOWN -> down() }
	:: atomic { me.at == STOPPED && k == current -> me.at = LEASES; me.i = 0 }
	od
}

/* ---- Jobs: Make and Move ---- */

#ifdef L_TWO_MAKE
#define asked(k) open(k)
#else
#define asked(k) (open(k) && k == current)
#endif

proctype JobsOf(byte k) {
	do
	/* make.share: the row has no draining epoch and the next one is due */
	:: atomic { me.job == IDLE && asked(k) && no_draining && top < EPOCHS &&
			(top == 0 || ver >= 1) ->
		me.share = top + 1; me.j = 0; me.job = SHARE }
#if OTHERS
	:: atomic { me.job == IDLE && asked(k) && !other && top -> me.share = OTHER; me.j = 0; me.job = SHARE }
#endif

	/* Tree.Put. put: write record, put: read record back */
	:: atomic { me.job == SHARE ->
#ifdef M_OPEN_BEFORE_PUT
		said_open = said_open | bit(me.share);
#endif
		if
		:: !row[me.j].live || (putmem.shares & bit(me.share)) -> goto put_done
		:: row[me.j].live && !(putmem.shares & bit(me.share)) && ((putmem.marked | putmem.erasing) & bit(me.share)) ->
			me.job = IDLE; me.share = 0; me.j = 0 /* ErrErasing */
		:: else ->
#ifdef M_RECORD_NOT_WRITTEN
			me.job = REMEMBER
#else
			puttree.records[putmem.now] = puttree.records[putmem.now] | bit(me.share);
			me.job = (putmem.next -> SECOND : REMEMBER)
#endif
		fi;
		goto put_end;
put_done:	if
#ifdef M_ONE_ANCHOR
		:: me.j == 0 -> me.job = MADE
#else
		:: me.j + 1 < A -> me.j++
		:: me.j + 1 == A -> me.job = MADE
#endif
		fi;
put_end:	skip }
	/* put: second root */
	:: atomic { me.job == SECOND ->
#ifndef M_NO_SECOND_ROOT
		puttree.records[putmem.next] = puttree.records[putmem.next] | bit(me.share);
#endif
		me.job = REMEMBER }
	/* put: remember */
	:: atomic { me.job == REMEMBER -> putmem.shares = putmem.shares | bit(me.share); me.job = SHARE }

	/* made.check, made.statement */
	:: atomic { me.job == MADE && !asked(k) -> me.job = IDLE; me.share = 0; me.j = 0 }
	:: atomic { me.job == MADE && asked(k) -> said_open = said_open | bit(me.share); me.job = OPENED }
	:: atomic { me.job == OPENED && (me.share == OTHER -> other : top >= me.share) ->
		me.job = IDLE; me.share = 0; me.j = 0 }

	/* move.list .. the courier's PUT of the new object */
	:: atomic { me.job == IDLE && asked(k) && draining && ptr == draining &&
			((c[k].t[0].shares | c[k].t[1].shares) & bit(draining)) && ((c[k].t[0].shares | c[k].t[1].shares) & bit(top)) ->
		me.mver = ver; me.mto = top; me.job = CARRY }
	:: atomic { me.job == CARRY ->
		if
		:: obj[me.mver] & bit(me.mto - 1) -> obj[me.mver] = obj[me.mver] | bit(me.mto); me.job = CHECK
		:: else -> me.job = IDLE; me.mver = 0; me.mto = 0 /* ask for the job again */
		fi }
	/* moved.check, moved.statement */
	:: atomic { me.job == CHECK ->
		if
		:: obj[me.mver] & bit(me.mto) ->
			said_move[me.mver] = said_move[me.mver] | bit(me.mto); me.job = MOVED
#ifdef M_DELETE_EARLY
			; obj[me.mver] = obj[me.mver] & ~bit(me.mto - 1)
#endif
		:: else -> me.job = IDLE; me.mver = 0; me.mto = 0
		fi }
	/* moved.proven: objects that no verified row names are given up */
	:: atomic { me.job == MOVED && !(ptr == me.mto - 1 && ver == me.mver) -> me.job = PROVEN }
	:: atomic { me.job == PROVEN ->
		obj[me.mver] = obj[me.mver] & ~bit(me.mto - 1);
		if
		:: !(ver == me.mver && ptr == me.mto) -> obj[me.mver] = obj[me.mver] & ~bit(me.mto)
		:: else
		fi;
		me.job = IDLE; me.mver = 0; me.mto = 0 }
	od
}

/* ---- Server.write, and the client that waits for its answer ---- */

proctype Writer() {
	do
	/* write.authorise .. write.put */
	:: atomic { writing == IDLE && ver < VERSIONS && top && open(current) &&
			((c[current].t[0].shares | c[current].t[1].shares) & bit(top)) ->
		wv = ver + 1; we = top; writing = SEAL }
	:: atomic { writing == SEAL -> obj[wv] = obj[wv] | bit(we); writing = REGISTER }
	/* write.register */
	:: atomic { writing == REGISTER -> said_register[wv] = said_register[wv] | bit(we); writing = SETTLE }
	/* Server.settle: rows alone decide */
	:: atomic { writing == SETTLE && ver >= wv ->
		acked = wv;
		if
		:: wv > 1 -> obj[wv-1] = 0
		:: else
		fi;
		wv = 0; we = 0; writing = IDLE }
	:: atomic { writing == SETTLE && ver < wv && top != we ->
		obj[wv] = obj[wv] & ~bit(we); writing = IDLE; wv = 0; we = 0 }
	od
}

/* ---- the relay: any statement that was signed, at any time ---- */

/* stale_out drops statements that no later row lets apply, so that equal states are one. */
inline stale_out() {
#ifndef M_NO_CAS
	said_open = said_open & ~(bit(top + 1) - 2) & ~(other -> bit(OTHER) : 0);
	said_register[1] = (ver >= 1 -> 0 : said_register[1] & bit(top));
	said_move[1] = (draining && ver <= 1 -> said_move[1] & bit(top) : 0);
#if VERSIONS > 1
	said_register[2] = (ver >= 2 -> 0 : said_register[2] & bit(top));
	said_move[2] = (draining && ver <= 2 -> said_move[2] & bit(top) : 0);
#endif
#endif
	skip
}

inline open_epoch(E_) {
	if
	:: top -> draining = top; erased = 0
	:: else
	fi;
	top = E_; stale_out()
}

#ifdef M_NO_CAS
#define may_move(v) (said_move[v] & bit(top)) && ver >= v && draining && ptr == draining
#define may_register(v) (said_register[v] & bit(top)) && ver != v
#else
#define may_move(v) (said_move[v] & bit(top)) && ver == v && draining && ptr == draining
#define may_register(v) (said_register[v] & bit(top)) && ver + 1 == v
#endif
#define may_open(e) (said_open & bit(e)) && top + 1 == e && no_draining

inline destroy_epoch(N_, K_) {
	erased = erased | bit(N_);
	if
	:: (!row[0].live || (erased & 1)) && (!row[1].live || (erased & 2)) -> draining = 0; erased = 0; stale_out();
		for (tmp : 0 .. A-1) {
			said[tmp].epoch[0] = 0; said[tmp].gen[0] = 0; said[tmp].dterm[0] = 0;
			said[tmp].epoch[1] = 0; said[tmp].gen[1] = 0; said[tmp].dterm[1] = 0
		}
		tmp = 0
	:: else
	fi
}

#define is_keeper(n,k,t) (row[n].live && row[n].keeper == k && row[n].term == t && row[n].leased)
#define may_commit(n,k) said[n].commit[k] && tree[n].gen[said[n].commit[k]] == row[n].gen + 1 && is_keeper(n, k, said[n].term[k])
#define may_destroy(n,k) draining && said[n].epoch[k] == draining && drained && said[n].gen[k] == row[n].gen && \
	is_keeper(n, k, said[n].dterm[k]) && !(erased & bit(n))

inline commit_tree(N_, K_) {
	row[N_].root = said[N_].commit[K_]; row[N_].gen = tree[N_].gen[row[N_].root];
	said[N_].commit[0] = 0; said[N_].term[0] = 0; said[N_].commit[1] = 0; said[N_].term[1] = 0; tidy(N_)
}

proctype Relay() {
end:	do
	/* rules: openEpoch */
	:: atomic { may_open(1) -> open_epoch(1) }
	:: atomic { may_open(2) -> open_epoch(2) }
	:: atomic { may_open(3) -> open_epoch(3) }
	:: atomic { (said_open & bit(OTHER)) && !other -> other = true; stale_out() }
	/* registerBlob */
	:: atomic { may_register(1) -> ver = 1; ptr = top; stale_out() }
#if VERSIONS > 1
	:: atomic { may_register(2) -> ver = 2; ptr = top; stale_out() }
	:: atomic { may_move(2) -> ptr = top; ver = 2; stale_out() }
#endif
	/* rotateBlobs */
	:: atomic { may_move(1) -> ptr = top; ver = 1; stale_out() }
	/* commitTree */
	:: atomic { may_commit(0,0) -> commit_tree(0,0) }
	:: atomic { may_commit(0,1) -> commit_tree(0,1) }
	:: atomic { may_commit(1,0) -> commit_tree(1,0) }
	:: atomic { may_commit(1,1) -> commit_tree(1,1) }
	/* destroyEpoch */
	:: atomic { may_destroy(0,0) -> destroy_epoch(0,0) }
	:: atomic { may_destroy(0,1) -> destroy_epoch(0,1) }
	:: atomic { may_destroy(1,0) -> destroy_epoch(1,0) }
	:: atomic { may_destroy(1,1) -> destroy_epoch(1,1) }
	od
}

/* ---- faults, and their end ---- */

proctype Faults() {
	do
	:: atomic { crashes < CRASHES && c[0].at != STOPPED && c[0].at != DOWN -> crashes++; c[0].at = DOWN }
#if TAKEOVERS
	:: atomic { crashes < CRASHES && c[1].at != STOPPED && c[1].at != DOWN -> crashes++; c[1].at = DOWN }
#endif
#if TAKEOVERS
	/* the lease runs out; the operator starts the other custodian and asks that one */
	:: atomic { takeovers < TAKEOVERS -> takeovers++;
		row[0].leased = false; row[1].leased = false;
		c[current].job = (c[current].job == SECOND || c[current].job == REMEMBER -> c[current].job : IDLE);
		writing = (writing == SETTLE || writing == IDLE -> writing : IDLE);
		current = 1 - current;
		if
		:: c[current].at == STOPPED -> c[current].at = LEASES; c[current].i = 0
		:: else -> c[current].at = DOWN
		fi }
#endif
#if EVICTIONS
	:: atomic { evictions < EVICTIONS && both -> evictions++;
		if
		:: row[0].live = false
		:: row[1].live = false
		fi }
#endif
#ifdef PROGRESS
	:: atomic { calm = true -> break }
#else
	:: break
#endif
	od
}

init {
	atomic {
		byte n;
		for (n : 0 .. A-1) {
			row[n].gen = 1; row[n].root = 1; row[n].live = true; row[n].keeper = 0; row[n].leased = true; row[n].term = 1;
			tree[n].held = bit(1); tree[n].gen[1] = 1; tree[n].there = bit(1);
			c[0].t[n].now = 1
#if TAKEOVERS
			/* begins with an epoch open and a credential in it */
			tree[n].index[1] = bit(1); c[0].t[n].shares = bit(1)
#endif
		}
#if TAKEOVERS
		top = 1; ver = 1; ptr = 1; acked = 1; obj[1] = bit(1);
#endif
		c[0].at = RUN; c[0].job = IDLE; c[1].at = STOPPED; c[1].job = IDLE; writing = IDLE;
		run Invariants(); run Relay(); run Faults();
		run Eraser(0); run JobsOf(0); run Writer();
#if TAKEOVERS
		run Eraser(1); run JobsOf(1)
#endif
	}
}

/* Progress: once faults stop, the last epoch gets open and alone, and what was written is in it. */
#define done (top == EPOCHS && !draining && ver == VERSIONS && ptr == top)
#ifdef PROGRESS
ltl progress { <> (calm && done) }
#endif
