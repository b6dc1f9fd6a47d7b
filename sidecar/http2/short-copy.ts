/** Copies of short messages, which share blocks of memory. */
import { type SharedBlock, SharedBlocks } from '../collections/shared-blocks.ts';

/** Copies up to this size share a block, because a buffer of its own costs the garbage collector more than the bytes. */
export const SHORT_COPY_MAX_BYTES = 1_024;
/** One copy keeps its whole block from being used again, so blocks are small. */
const BLOCK_BYTES = 8_192;
/** 1 MiB: the copies of some thousand calls at once. */
const SPARE_BLOCKS_MAX = 128;

/** For copies of at most {@link SHORT_COPY_MAX_BYTES}. The queue of a stream keeps no view of a piece so short. */
export const shortCopies = new SharedBlocks(BLOCK_BYTES, SPARE_BLOCKS_MAX);

export type ShortCopy = SharedBlock;
