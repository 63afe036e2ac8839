/**
 * Where the ends of relays are, in Redis (relays.ts), when they may be at different processes:
 *
 *   dcpipe:r:NAME   hash, a relay; with R = w(aiting) or j(oining): Rk key | Rs seat, "PROCESS NUMBER" | Rt when the end's process last
 *                   said that it is there, ms since 1970
 *
 * What goes through relays does not come here: processes say it to each other (redis-relays.ts). A process that dies says nothing any
 * more, and its ends count as gone when `keep` ms have passed.
 */
import { PRELUDE } from "./scripts.ts";

/**
 * ARGV: relay, role, seat, key, keep. Answers with a close code, the seat of the other end, or "". An end that takes its older self's
 * place ends that pair, whose other end hears it from here too: the older self's process may be gone.
 */
const ENTER = `
local relay, role, seat, o, keep = ARGV[1], ARGV[2], ARGV[3], other(ARGV[2]), tonumber(ARGV[5])
local m = redis.call('HMGET', relay, role .. 'k', role .. 's', role .. 't', o .. 's', o .. 't')
local theirs = m[4]
if m[2] then
  if m[1] ~= ARGV[4] and tonumber(m[3]) > now - keep then return 4004 end
  notice(m[2], 'REPLACED')
  notice(theirs, 'CLOSE 4010')
  theirs = nil
end
if not theirs or tonumber(m[5]) <= now - keep or notice(theirs, 'PAIRED ' .. seat) == 0 then
  redis.call('DEL', relay)
  theirs = ''
end
redis.call('HSET', relay, role .. 'k', ARGV[4], role .. 's', seat, role .. 't', now)
redis.call('PEXPIRE', relay, keep)
return theirs
`;

/** ARGV: relay, role, seat, keep. Answers with what the end must be closed with, or 0. */
const KEEP = `
local relay, role, o, keep = ARGV[1], ARGV[2], other(ARGV[2]), tonumber(ARGV[4])
local m = redis.call('HMGET', relay, role .. 's', o .. 's', o .. 't')
if m[1] ~= ARGV[3] then return 1001 end
if m[2] and tonumber(m[3]) <= now - keep then
  redis.call('DEL', relay)
  return 4010
end
redis.call('HSET', relay, role .. 't', now)
redis.call('PEXPIRE', relay, keep)
return 0
`;

/**
 * ARGV: relay, role, seat. The other end goes, too: who comes now does not meet it. It has been told why, unless it came just now, and
 * this end does not know that it did.
 */
const LEAVE = `
local m = redis.call('HMGET', ARGV[1], ARGV[2] .. 's', other(ARGV[2]) .. 's')
if m[1] ~= ARGV[3] then return 0 end
notice(m[2], 'CLOSE 4009')
redis.call('DEL', ARGV[1])
return 0
`;

export const RELAY_SCRIPTS = {
  enter: PRELUDE + ENTER,
  keep: PRELUDE + KEEP,
  leave: PRELUDE + LEAVE,
} as const;
