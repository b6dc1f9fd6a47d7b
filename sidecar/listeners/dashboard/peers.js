// Names the endpoints that `admin.peers` knows: `research-1 · 10.0.0.7:15006`, with a link to the dashboard of its sidecar.
import { breakable, element } from '/shared/elements.js';

/** By address: { name, page }. */
const peers = new Map();

/** Takes the names of a snapshot. */
export function setPeers(list) {
  peers.clear();
  for (const peer of list) peers.set(peer.address, peer);
}

export function peerOf(address) {
  return peers.get(address);
}

/** Puts the names before the addresses of a text; 10.0.0.7:80 is no part of 10.0.0.7:8080 or 110.0.0.7:80. */
export function named(text) {
  let result = text;
  for (const [address, { name }] of peers) {
    if (!result.includes(address)) continue;
    result = result
      .split(address)
      .reduce(
        (done, rest) =>
          done + (/[\w.]$/.test(done) || /^\d/.test(rest) ? address : `${name} · ${address}`) + rest,
      );
  }
  return result;
}

/** Shows an address, with its name and link. */
export function showAddress(node, address) {
  const peer = peers.get(address);
  const text = element('span', '');
  breakable(text, address);
  if (peer === undefined) {
    node.replaceChildren(text);
    return;
  }
  const name = element(peer.page === null ? 'span' : 'a', '', peer.name);
  if (peer.page !== null) name.href = peer.page;
  node.replaceChildren(name, ' · ', text);
}
