-- How quotas of requests stand, by the clock of the database: each is whole ahead_ms after a time. Names are hashes. What
-- is lost where the server dies are requests of the last minute; nobody waits for the disk.
create unlogged table rate_limits (
  name text collate "C" primary key,
  ahead_ms double precision not null,
  at timestamptz not null
) with (fillfactor = 50);

-- How far ahead a quota is now.
create function quota_ahead_ms(of_name text) returns double precision
language sql volatile as $$
  select coalesce((select greatest(0, ahead_ms - extract(epoch from clock_timestamp() - at)::double precision * 1000)
    from rate_limits where name = of_name), 0);
$$;

-- Takes one request of a quota, where it is allowed; gives how far ahead the quota was before. Whether it is allowed is
-- what gcra.ts makes of that: the same sums in the same order.
create function take_request(of_name text, each_ms double precision, window_ms double precision,
  tolerance_ms double precision) returns double precision
language plpgsql as $$
declare
  before_ms double precision;
begin
  perform pg_advisory_xact_lock(hashtextextended('quota ' || of_name, 0));
  before_ms := quota_ahead_ms(of_name);
  if before_ms + each_ms - window_ms <= tolerance_ms then
    insert into rate_limits values (of_name, before_ms + each_ms, clock_timestamp())
      on conflict (name) do update set ahead_ms = excluded.ahead_ms, at = excluded.at;
  end if;
  return before_ms;
end;
$$;
