/**
 * Directs the calls that arrive on the port of one target (`outbound.targets`). An app that dials the port in place of
 * the target's address sends the port as its authority; the call gets the address instead, as if the app had dialled it.
 */
import { headOf, MessageHead } from '../http2/head.ts';
import { FIELD_OVERHEAD_BYTES, HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import { splitAuthority } from '../net/authority.ts';
import { isLoopback } from '../net/reach.ts';
import type { Router } from '../proxy/router.ts';
import type { CallAcceptor } from './grpc-listener.ts';

const AUTHORITY = ':authority';

/** A head as it goes on, and the router that it was made for. */
interface Directed {
  readonly router: Router;
  readonly list: HeaderList;
  readonly head: MessageHead;
}

export class TargetCalls implements CallAcceptor {
  private readonly calls: CallAcceptor;
  /** Has the router in use. */
  private readonly context: { readonly router: Router };
  /** By the received list, which a client repeats. */
  private known = new WeakMap<HeaderList, Directed>();
  /** The address of the target. */
  target: string;

  constructor(calls: CallAcceptor, context: { readonly router: Router }, target: string) {
    this.calls = calls;
    this.context = context;
    this.target = target;
  }

  /** A reload has given the port another target. */
  redirect(target: string): void {
    if (target === this.target) return;
    this.target = target;
    this.known = new WeakMap();
  }

  acceptRequest(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    // A head that is too large was not decoded completely.
    if (list.oversize) {
      this.calls.acceptRequest(stream, list, head, endStream);
      return;
    }
    let directed = this.known.get(list);
    if (directed === undefined || directed.router !== this.context.router) {
      directed = this.direct(list, head);
      if (list.shared) this.known.set(list, directed);
    }
    this.calls.acceptRequest(stream, directed.list, directed.head, endStream);
  }

  private direct(list: HeaderList, head: MessageHead): Directed {
    const { router } = this.context;
    if (isLoopback(splitAuthority(head.authority).host)) {
      const named = withAuthority(list, this.target);
      return { router, list: named, head: headOf(named, 'request') };
    }
    const { cluster, byAgentType } = router.route(list, head);
    if (cluster !== undefined || byAgentType.length > 0) return { router, list, head };
    // The app names a server of its own choice, perhaps a virtual one: the target gets that name.
    const routed = Object.assign(new MessageHead(head.kind), head, {
      authority: this.target,
      derived: undefined,
    });
    return { router, list, head: routed };
  }
}

/** The list with another `:authority`, in the same place; in front if it had none. */
function withAuthority(list: HeaderList, authority: string): HeaderList {
  const { fields, neverIndexed, listBytes } = list;
  let copy: HeaderList;
  const at = fields.indexOf(AUTHORITY);
  if (at >= 0 && at % 2 === 0) {
    const changed = fields.with(at + 1, authority);
    copy = new HeaderList(changed, neverIndexed, listBytes + authority.length - fields[at + 1]!.length);
  } else {
    const shifted = neverIndexed?.map((ordinal) => ordinal + 1);
    const added = AUTHORITY.length + authority.length + FIELD_OVERHEAD_BYTES;
    copy = new HeaderList([AUTHORITY, authority, ...fields], shifted, listBytes + added);
  }
  copy.shared = list.shared;
  return copy;
}
