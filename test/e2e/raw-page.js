/**
 * What a page needs to talk to `dcpipe pipe --raw`: docs/raw.md shows these functions. They echo what comes. Tests run them in
 * browsers, and with a library's RTCPeerConnection in Node.
 */

/** The page makes the offer. Returns its line, and what takes the answer's. */
export async function offering(RTCPeerConnection) {
  const pc = new RTCPeerConnection();
  echo(pc.createDataChannel("page"));
  await pc.setLocalDescription(await pc.createOffer());
  await gathered(pc);
  return {
    pc,
    line: JSON.stringify(pc.localDescription),
    take: (answer) => pc.setRemoteDescription(JSON.parse(answer)),
  };
}

/** The page is given the offer. Returns the line of its answer. */
export async function answering(RTCPeerConnection, offer) {
  const pc = new RTCPeerConnection();
  pc.ondatachannel = ({ channel }) => echo(channel);
  await pc.setRemoteDescription(JSON.parse(offer));
  await pc.setLocalDescription(await pc.createAnswer());
  await gathered(pc);
  return { pc, line: JSON.stringify(pc.localDescription) };
}

/** No trickle: the description is complete when all addresses are known. */
function gathered(pc) {
  return new Promise((resolve) => {
    const look = () => pc.iceGatheringState === "complete" && resolve();
    pc.addEventListener("icegatheringstatechange", look);
    look();
  });
}

function echo(channel) {
  channel.binaryType = "arraybuffer";
  channel.onmessage = ({ data }) => channel.send(data);
  globalThis.kept = channel; // or it is collected
}
