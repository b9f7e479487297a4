// Which words two texts do not have in common, in order: for both the list of [text, isShared] runs. Pure.
// The common subsequence with the most letters holds texts together better than the longest one.
const LARGEST_TABLE = 4_000_000; // cells; about 2,000 by 2,000 words, some tens of milliseconds

const segmenter = window.Intl?.Segmenter ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;

export function wordsOf(text) {
  if (!segmenter) return text.match(/\s+|\S+/g) || [];
  return Array.from(segmenter.segment(text), (part) => part.segment);
}
const sentencesOf = (text) => text.match(/[^\n.!?。！？]*[\n.!?。！？]+\s*|[^\n.!?。！？]+$/g) || [];

function sharedEnds(one, other) {
  const most = Math.min(one.length, other.length);
  let head = 0;
  while (head < most && one[head] === other[head]) head++;
  let tail = 0;
  while (tail < most - head && one[one.length - 1 - tail] === other[other.length - 1 - tail]) tail++;
  return { head, tail };
}

function heaviestCommon(one, other) {
  const width = other.length + 1;
  const best = new Uint32Array((one.length + 1) * width);
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      const at = i * width + j;
      const skipped = Math.max(best[at + 1], best[at + width]);
      const matched = one[i] === other[j] ? best[at + width + 1] + weightOf(one[i]) : 0;
      best[at] = Math.max(skipped, matched);
    }
  }
  const sharedOne = new Uint8Array(one.length);
  const sharedOther = new Uint8Array(other.length);
  let i = 0;
  let j = 0;
  while (i < one.length && j < other.length) {
    const at = i * width + j;
    if (one[i] === other[j] && best[at] === best[at + width + 1] + weightOf(one[i])) {
      sharedOne[i++] = sharedOther[j++] = 1;
    } else if (best[at] === best[at + width]) i++;
    else j++;
  }
  return [sharedOne, sharedOther];
}
// A blank is no reason to tear two words apart: it weighs next to nothing beside any word.
const weightOf = (word) => (/^\s*$/.test(word) ? 1 : 4 * word.length);

function runs(pieces, isShared) {
  const result = [];
  pieces.forEach((piece, place) => {
    const shared = isShared(place);
    const last = result.at(-1);
    if (last && last[1] === shared) last[0] += piece;
    else result.push([piece, shared]);
  });
  return bridged(result);
}
// Between two marked runs a lone blank is marked too, so that a changed phrase is one mark.
function bridged(list) {
  const result = [];
  list.forEach(([text, shared], place) => {
    const between = shared && /^[ \t]+$/.test(text) && place > 0 && place < list.length - 1;
    const last = result.at(-1);
    if (last && (between || !shared) && !last[1]) last[0] += text;
    else result.push([text, shared && !between]);
  });
  return result;
}

// Returns null when the texts are too long even sentence by sentence.
export function diffTexts(one, other) {
  for (const pieces of [wordsOf, sentencesOf]) {
    const [a, b] = [pieces(one), pieces(other)];
    const { head, tail } = sharedEnds(a, b);
    const middleA = a.slice(head, a.length - tail);
    const middleB = b.slice(head, b.length - tail);
    if ((middleA.length + 1) * (middleB.length + 1) > LARGEST_TABLE) continue;
    const [inA, inB] = heaviestCommon(middleA, middleB);
    const whole = (list, marks) => (place) => place < head || place >= list.length - tail || marks[place - head] === 1;
    return [runs(a, whole(a, inA)), runs(b, whole(b, inB))];
  }
  return null;
}
