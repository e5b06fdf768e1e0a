select 1
select 1, 'a', 2.50, null, true
select -5, 2147483648, 9223372036854775808, 1e3
select 1 + 2 * 3, 7 / 2, 7 % 3, 7.0 / 2, -7 / 2
select 'abc' || 'def', 'a' || 1, 1 || 'a'
select 'x' like '%x', 'abc' like 'a_c', 'abc' not like 'b%', 'ABC' ilike 'abc'
select null = null, null is null, 1 is distinct from null, null is not distinct from null
select 1 between 0 and 2, 3 not between 1 and 2, 1 between symmetric 2 and 0
select 1 in (1, 2, 3), 5 in (1, 2), null in (1), 1 in (null, 1), 1 in (null, 2), 1 not in (2, null)
select case when 1 = 1 then 'a' else 'b' end, case 3 when 1 then 'x' when 3 then 'y' end, case when false then 1 end
select coalesce(null, 2, 3), coalesce(null, 'x'), nullif(1, 1), nullif(1, 2), greatest(1, null, 3), least(2, 1)
select true and null, false and null, true or null, false or null, not null::bool
select (1 = 1) is true, null::bool is unknown, (1 = 2) is not true, null::bool is not false
select '5'::int + 1, 5::text || 'x', '2020-01-31'::date + 1, date '2020-03-01' - date '2020-02-01'
select 1::numeric(5,2), 1.255::numeric(5,2), 'abcdef'::varchar(3), 'ab'::char(4) || 'x', 3.7::int, '12'::bigint
select timestamp '2020-01-01 10:00:00' + interval '1 day 2 hours', date_trunc('month', timestamp '2020-05-17 11:12:13')
select extract(year from date '2021-07-04'), extract(epoch from interval '1 hour'), date_part('day', date '2021-07-04')
select length('häß'), upper('abc'), lower('ABC'), substring('abcdef' from 2 for 3), substr('abcdef', 3), position('c' in 'abc')
select trim('  x '), trim(leading 'x' from 'xxabc'), replace('aXbX', 'X', '-'), left('abc', 2), right('abc', 2), repeat('ab', 3)
select round(2.567, 2), round(2.5), ceil(1.2), floor(-1.2), abs(-3), sign(-2.5), trunc(2.7), mod(7, 3), power(2, 10), sqrt(16)
select '{"a": {"b": [1, 2]}}'::jsonb -> 'a', '{"a": 1}'::jsonb ->> 'a', '[1,2,3]'::jsonb -> 1
select true::int, 1::bool, 'yes'::bool, 't'::boolean
select a from t order by a
select * from t order by a, b, c
select t.* from t order by a, b, c
select a as x, b y from t order by x, y
select a + 1 as n from t order by n desc
select a from t order by a desc nulls last
select a from t order by a nulls first
select a, b from t order by 2, 1
select a, b from t order by b desc, a
select a from t order by -a
select a, b from t order by length(b), b, a
select distinct a from t order by a
select distinct a, b from t order by a, b
select distinct on (a) a, b, c from t order by a, b, c
select distinct on (a) a, b, c from t order by a desc, b desc, c desc
select a from t order by a limit 2
select a from t order by a offset 1
select a from t order by a limit 2 offset 1
select a from t order by a limit null
select a from t order by a fetch first 2 rows only
select a from t where a > 1
select a from t where a = 2 and b = 'two'
select a from t where b is null
select a from t where b is not null and c > 1
select a from t where not (a > 1)
select a from t where a > 1 or b like 'o%'
select a from t where (a, b) = (2, 'two')
select a from t where (a, b) in ((1, 'one'), (2, 'two'))
select a from t where (a, c) < (2, 3)
select a from t where a in (1, 3)
select a from t where a = any (array[1, 3])
select a from t where a <> all (array[1, 3])
select a from t where a = any ('{1,3}')
select b from t where b = any ('{one,two}'::text[])
select a from t where a between 1 and 2
select count(*) from t
select count(a), count(b), count(distinct a), sum(a), min(a), max(a), avg(a) from t
select sum(c), avg(c), min(c), max(c), min(b), max(b) from t
select count(*), sum(a), max(b), bool_and(a > 0), bool_or(a > 2) from t where a > 1000
select count(*) filter (where a > 1), sum(a) filter (where b is not null) from t
select a, count(*) from t group by a order by a
select a, count(*), sum(c) from t group by a having count(*) > 1 order by a
select a % 2, count(*) from t group by a % 2 order by 1
select a % 2 as m, count(*) from t group by m order by m
select a % 2, count(*) from t group by 1 order by 1
select a + 1, count(*) from t group by a order by 1
select count(*) from t group by a order by 1
select a from t group by a order by count(*), a
select upper(b), count(*) from t group by upper(b) order by 1
select b, sum(a) + count(*) from t group by b order by b
select count(distinct b), sum(distinct a), avg(distinct a) from t
select a, count(distinct b) from t group by a order by a
select 1 from t having count(*) > 0
select max(a) from t having max(a) > 100
select sum(a + 1) * 2 from t
select max(x) from (select a as x from t where a < 3) q
select sum(n) from (select count(*) as n from t group by a) q
select t.a, s.y from t join s on t.a = s.x order by 1, 2
select t.a, s.y from t, s where t.a = s.x order by 1, 2
select t.a, s.y from t left join s on t.a = s.x order by 1, 2
select t.a, s.y from t right join s on t.a = s.x order by 1, 2
select t.a, s.y from t full join s on t.a = s.x order by 1, 2
select t.a, s.x from t cross join s order by 1, 2
select t.a, s.y from t left join s on t.a = s.x and s.y > 10 order by 1, 2
select t.a, s.y from t left join s on t.a = s.x and t.a > 1 order by 1, 2
select t.a, s.y from t left join s on t.a = s.x and s.y > t.c order by 1, 2
select t.a, s.y from t left join s on t.a < s.x order by 1, 2
select t.a, s.y from t full join s on t.a = s.x and s.y > 10 order by 1, 2
select t.a, s.y from t left join s on t.a = s.x where s.y is null order by 1, 2
select t.a, s.y from t left join s on t.a = s.x where s.y > 5 order by 1, 2
select t.a, s.y from t left join s on false order by 1, 2
select t.a, s.y from t left join s on true order by 1, 2
select * from t join u using (a) order by 1, 2, 3, 4
select * from t left join u using (a) order by 1, 2, 3, 4
select * from t right join u using (a) order by 1, 2, 3, 4
select * from t full join u using (a) order by 1, 2, 3, 4
select a, t.b, u.d from t full join u using (a) order by 1, 2, 3
select * from t natural join u order by 1, 2, 3, 4
select t.a, u.a from t join u using (a) order by 1, 2
select t1.a, t2.a from t t1 join t t2 on t1.a = t2.a order by 1, 2
select t.a, s.y, u.d from t join s on t.a = s.x join u on u.a = s.x order by 1, 2, 3
select t.a, s.y, u.d from t left join s on t.a = s.x left join u on u.a = s.x order by 1, 2, 3
select t.a, s.y, u.d from t left join (s join u on u.a = s.x) on t.a = s.x order by 1, 2, 3
select t.a from t join s on t.a + 1 = s.x order by 1
select t.a from t join s on t.a = s.x and t.c < s.y order by 1
select t.a, w.k from t join w on t.a = w.k order by 1, 2
select count(*) from t, s, u where t.a = s.x and s.x = u.a
select count(*) from t, s, u
select a from t where exists (select 1 from s where x = a) order by a
select a from t where not exists (select 1 from s where x = a) order by a
select a from t where exists (select 1 from s where x = a and y > 10) order by a
select a from t where exists (select 1 from s where x > a) order by a
select a from t where exists (select 1 from s where x = a or y = 50) order by a
select a from t where exists (select 1 from s) order by a
select a from t where not exists (select 1 from s where x > 100) order by a
select a, exists (select 1 from s where x = a) from t order by 1, 2
select a, not exists (select 1 from s where x = a and y is null) from t order by 1, 2
select a from t where a in (select x from s) order by a
select a from t where a not in (select x from s) order by a
select a from t where a not in (select y from s) order by a
select a from t where a not in (select y from s where y is not null) order by a
select a from t where a in (select y / 10 from s) order by a
select a, a in (select x from s) from t order by 1, 2
select a, a in (select y / 10 from s) from t order by 1, 2
select a, a not in (select y / 10 from s) from t order by 1, 2
select c, c in (select 7 from s) from t order by 1, 2
select c, c in (select 7 from s where false) from t order by 1, 2
select a from t where (a, b) in (select a, d from u) order by a
select a from t where (a, b) not in (select a, d from u) order by a
select a from t where a > any (select x from s) order by a
select a from t where a > all (select x from s) order by a
select a from t where a >= all (select x from s where x < 3) order by a
select a from t where a > all (select y from s) order by a
select a, a > any (select y / 10 from s) from t order by 1, 2
select a, a <> all (select y / 10 from s) from t order by 1, 2
select a, (select max(y) from s where x = a) from t order by 1, 2
select a, (select count(*) from s where x = a) from t order by 1, 2
select a, (select count(*) from s where x > a) from t order by 1, 2
select a, (select sum(y) + t.a from s where x = a) from t order by 1, 2
select a, (select d from u where u.a = t.a order by d limit 1) from t order by 1, 2
select a, (select y from s where x = a and y is not null) from t order by 1, 2
select (select max(a) from t), (select min(x) from s)
select (select 1 where false)
select a from t where a = (select max(a) from t) order by a
select a from t where c > (select avg(c) from t) order by a
select a from t where c > (select avg(c) from t t2 where t2.a = t.a) order by a
select a, (select count(*) from s where x = t.a and y > (select min(y) from s s2 where s2.x = s.x)) from t order by 1, 2
select a from t where exists (select 1 from s where s.x = t.a and exists (select 1 from u where u.a = s.x and u.a = t.a)) order by a
select a from t where a in (select x from s where y in (select y from s where y > 5)) order by a
select (select y from s)
select a, (select y from s where x = a) from t
select * from (select a, b from t) q order by 1, 2
select q.n from (select a as n from t) as q where q.n > 1 order by 1
select x, y from (select a, b from t) as q (x, y) order by 1, 2
select * from (values (1, 'a'), (2, 'b')) v (n, s) order by n
select * from (values (1, null), (null, 'b')) v order by 1, 2
values (1, 'x'), (2, 'y'), (3, null) order by 1
values (1), (2.5), (3)
select v.n, t.b from (values (1), (2)) v (n) join t on t.a = v.n order by 1, 2
with q as (select a from t where a > 1) select * from q order by a
with q as (select a from t), r as (select a from q where a < 3) select q.a, r.a from q join r on q.a = r.a order by 1, 2
with q (z) as (select a from t) select z from q union all select z + 10 from q order by 1
with q as (select count(*) as n from t) select a, (select n from q) from t order by a
select a from t where a in (with q as (select x from s) select x from q) order by a
select a from t union select x from s order by 1
select a from t union all select x from s order by 1
select a from t intersect select x from s order by 1
select a from t intersect all select x from s order by 1
select a from t except select x from s order by 1
select a from t except all select x from s order by 1
select a, b from t union select x, 'n' from s order by 1, 2
select a from t union select c from t order by 1
select 1 union select 2.5 union select null order by 1
select 'a' union select 'b' order by 1
select a from t union all (select x from s order by x limit 1) order by 1
(select a from t order by a limit 1) union all (select a from t order by a desc limit 1) order by 1
select a from t union select x from s except select 1 order by 1
select b from t except select d from u order by 1
select null union select null
select b from t intersect select b from t order by 1
select * from t, lateral (select y from s where s.x = t.a order by y limit 1) l order by 1, 2, 3, 4
select t.a, l.n from t left join lateral (select count(*) as n from s where s.x = t.a) l on true order by 1, 2
select t.a, l.y from t left join lateral (select y from s where s.x = t.a) l on true order by 1, 2
select t.a, l.y from t left join lateral (select y from s where s.x = t.a) l on l.y > 15 order by 1, 2
select t.a, m.z from t cross join lateral (select t.a * 2 as z) m order by 1, 2
select t.a, l.y, m.d from t, lateral (select y from s where s.x = t.a) l, lateral (select d from u where u.a = t.a) m order by 1, 2, 3
select t.a, q.k from t, lateral (select s.x, u.a as k from s join u on s.x = u.a where u.a = t.a) q order by 1, 2
select n from generate_series(1, 5) n order by n
select g.n * t.a from generate_series(1, 2) as g (n), t order by 1
select generate_series.generate_series from generate_series(3, 1, -1) order by 1
select a from v order by a
select * from v join t using (a) order by 1, 2, 3, 4
select total from agg_view order by total
select a, n from v2 order by 1, 2
select count(*) from v where a = 2
select d, count(*) from u group by d order by d
select k, sum(v) from w group by k order by k
select k + v, k * v, k - v, v / 2 from w order by 1, 2, 3
select k = v, k < v, k <> v from w order by 1, 2, 3
select d1, d1 + 1, d1 - interval '1 day', ts + interval '1 month' from x order by d1
select extract(month from d1), date_trunc('day', ts), ts::date from x order by 1, 2, 3
select d1 < ts, d1 = date '2020-02-29', ts > '2020-01-01' from x order by 1, 2, 3
select f * 2, f::int, f::numeric, i2 + 1 from x order by 1
select min(d1), max(ts), min(f), max(i2), avg(f), sum(i2) from x
select flag, count(*) from x group by flag order by flag
select flag and true, not flag, flag or null from x order by 1, 2, 3
select j -> 'a', j ->> 'a', j ->> 'b' from x order by 2
select count(*) from x where j ->> 'a' = '1'
select case when a > 1 then b else 'none' end from t order by 1
select case a when 1 then 'one' when 2 then 'two' else 'many' end, count(*) from t group by 1 order by 1
select coalesce(b, 'null'), coalesce(c, 0) from t order by 1, 2
select sum(case when a > 1 then 1 else 0 end) from t
select a, sum(c) over () from t where false
select a from t where a::text = '2'
select a::text || '-' || coalesce(b, '') from t order by 1
select 10 / a from t order by 1
select a / 0 from t where a > 100
select case when a = 1 then 0 else 10 / (a - 1) end from t order by 1
select t.a from t where t.a = 1 and (select count(*) from s) > 0
select sum(q.cnt) from (select t.a, count(s.x) as cnt from t left join s on t.a = s.x group by t.a) q
select t.a, count(s.x), sum(s.y) from t left join s on t.a = s.x group by t.a order by t.a
select x, max(y), (select count(*) from t where t.a = s.x) from s group by x order by x
select a, b from t where b = (select max(b) from t t2 where t2.a = t.a) order by 1, 2
select a from t t1 where 1 < (select count(*) from t t2 where t2.a = t1.a) order by 1
select count(*) from t where a in (select a from u where d = b)
select q.a from (select a, count(*) as n from t group by a) q where n = (select max(n) from (select count(*) as n from t group by a) r) order by 1
select distinct x from s where x not in (select a from t where a is not null) order by x
select max(a) - min(a) from t
select -max(a), +min(a) from t
select a is null, b is null from t order by 1, 2
select a, b, c from t where c is distinct from 7 order by 1, 2, 3
select t.a, s.x from t join s on t.a is not distinct from s.y order by 1, 2
select t1.b, t2.b from t t1 join t t2 on t1.b is not distinct from t2.b order by 1, 2
select t1.b from t t1 left join t t2 on t1.b is not distinct from t2.b and t1.a = t2.a order by 1
select a from t where b similar to 'o%'
select 1 as "Foo Bar", 2 as select_
select a "A" from t order by "A"
select count(*) from (select distinct a from t) q
select count(*) from (select a from t order by a limit 2) q
select sum(a) from (select a from t order by a desc limit 2) q
select a from t where a > (select 1) and a < (select 3) order by a
select (select (select max(x) from s where x <= t.a)) from t order by 1
select a, (select string_x from (select b as string_x from t t2 where t2.a = t.a order by b limit 1) q) from t order by 1, 2
select t.a, (select sum(s.y) from s where s.x between t.a and t.a + 1) from t order by 1, 2
select exists (select 1 from t where a = 99), exists (select 1 from t)
select a from t where (select true) order by a
select a from t where a = 1 union select 5 where exists (select 1 from s) order by 1
select u.d, q.n from u left join (select a, count(*) as n from t group by a) q on q.a = u.a order by 1, 2
select * from s s1 join s s2 on s1.x = s2.x and s1.y < s2.y order by 1, 2, 3, 4
select * from s s1 left join s s2 on s1.x = s2.x and s1.y <> s2.y order by 1, 2, 3, 4
select count(*) from s where y is null or y > 10
select x, count(y), count(*), min(y) from s group by x order by x
select x from s group by x having count(y) = 0 order by x
select x from s group by x having min(y) is not null and x > 1 order by x
select nosuch from t
select t.nosuch from t
select nosuch.a from t
select * from nosuch
select * from public.nosuch
select a from t, u
select nofunc(a) from t
select a + b from t
select lower(a) from t
select 'abc'::int
select a from t where b = 5
select a from t where a
select a from t where 'abc'
select sum(b) from t
select sum(sum(a)) from t
select a from t where sum(a) > 1
select a, count(*) from t
select a, b, count(*) from t group by a
select t.a from t group by t.b
select a from t order by 5
select a from t group by 5
select a from t order by nosuch
select distinct a from t order by b
select a from t union select a, b from t
select a from t union select b from t
select a from t union select a from t order by a + 1
select (select a, b from t)
select a from t where a in (select a, b from t)
select 1 = 'a'
select case when 1 then 2 end
select case when true then 1 else 'x' end
select coalesce(1, 'x')
select t.a from t join t on true
select * from t join s using (a)
select * from t join u using (nosuch)
select a from t limit -1
select a from t limit -1 offset -1
select a from t order by a fetch first 2 rows with ties
select a from t order by a offset 1 rows fetch next 2 rows with ties
select a from t order by a offset 3 rows fetch next 1 row with ties
select a, count(*) over () from t order by a desc nulls last fetch first row with ties
select (jsonb_each(j)).key from x
select d1, (jsonb_each(j)).key, (jsonb_each(j)).value, (jsonb_each(j)).key || '!' as k2 from x
select (jsonb_each_text(j)).value as v, (jsonb_each(j)).key, generate_series(1, 3) from x
select upper((jsonb_each(j)).key), jsonb_typeof((jsonb_each(j)).value), count(*) from x group by 1, 2
select (jsonb_each((jsonb_each('{"a": {"b": 1, "c": 2}}'::jsonb)).value)).key
select (jsonb_each(j)).nosuch from x
select (generate_series(1, 2)).x
select a from t where (jsonb_each('{}'::jsonb)).key = b
select b is null from t order by b is null fetch first 1 row with ties
select a from t order by a fetch first 0 rows with ties
select a from t order by a fetch first 100 rows with ties
select a from t order by a offset 2 rows fetch first 9223372036854775807 rows with ties
select a from t order by a fetch first -1 rows with ties
select a from t fetch first 2 rows with ties
select a from t order by a fetch first null rows with ties
select a from t order by a fetch first (null::int) rows with ties
select distinct a from t order by a fetch first 2 rows with ties
select distinct on (a) a, c from t order by a, c fetch first 3 rows with ties
select a, count(*) from t group by a order by count(*) desc, a is null fetch first 1 row with ties
select count(*) from (select a from t order by a desc offset 1 rows fetch first 1 row with ties) q
select x, (select count(*) from (select a from t where a >= x order by a fetch first 1 row with ties) q) from s
select a from t union all select x from s order by 1 fetch first 3 rows with ties
values (1), (2), (2), (3) order by 1 fetch first 2 rows with ties
select x from s where x in (select a from t order by a fetch first 2 rows with ties)
select a from t offset -1
select a from t limit 'x'
selec 1
select from where
select 1 +
select (1
select 'abc
select a from t where a = = 1
select a b c from t
select 1::nosuchtype
select cast('x' as numeric)
select date '2020-13-01'
select true + 1
select not 1
select 1 and true
select * from (select 1)
select 1 limit 1 2
select distinct on (b) a, b from t order by a
select 'a' < 1
select array_length(1)
select upper()
select count(a, b) from t
select lower(distinct b) from t
select max(*) from t
select exists (select nosuch from t)
select a from t where exists (select 1 from s where nosuch = a)
select s.y from t where exists (select 1 from s where s.x = t.a)
select x.y.z.w.v from t
select t.a from t as q
select q.a from t as q (a, b, c, d)
with q (x, y) as (select a from t) select * from q
select 1 where 1
select 1 from t having a > 1
insert into t values (1, 'x', 2, 3)
insert into t (a, b) values (1)
insert into t (a, nosuch) values (1, 2)
insert into t (a, a) values (1, 2)
insert into t (a) values ('abc')
insert into t (a) values (true)
insert into s (y) values (5)
insert into nosuch values (1)
insert into t (a) select b from t
update t set nosuch = 1
update t set a = 'x'
update t set a = b
update t set a = 1, a = 2
delete from t where nosuch = 1
delete from nosuch
select x from unnest('{1,2}'::int[]) x order by 1
select * from unnest(array['a','b']) x order by 1
select '1'::int::text, (case when true then 1 end)::bigint, a::text, (select max(a) from t), (select 1) from t order by a, b, c
select true, current_date is null, case when a = 1 then b end, case when a = 1 then 'x' else b end, array[1], exists (select 1) from t order by a, b, c
select a % 2 * count(*) from t group by 1
select count(*) as n from t group by n
select a from t where a + any (array[1, 3])
select interval '1' day, interval '1-2' year to month, interval '2' hour, interval '1.5' minute, interval '90' second
select interval '1 2:03:04' day to minute, interval '1:30' hour to minute, interval '1:30' minute to second, interval '1 year 2 months 3 days' year, interval '14 months' year
select '3'::interval month, interval '-2' day, interval '1 day 2 hours' day, cast('1' as interval hour)
select interval '1 day' * 2, interval '1.5 hours', -interval '1 day'
select greatest(a, 2), least(a, 2, null), greatest(b, 'one'), greatest(1, 2.5, a) from t order by 1, 2, 3, 4
select nullif(nullif(nullif(nullif(a, 1), 2), 3), 4) from t order by 1
select 1 + 2.5, 1::smallint + 1, 1::bigint * 2::int, 1.5::real + 1, 2::real * 2.5, 1 / 3.0, 1::float8 / 3
select 2 ^ 3, 5 % 3, -5 % 3, 5.5 % 2, |/ 16.0, @ -5, 7 & 3, 7 | 8, 7 # 2, 1 << 3, 16 >> 2, ~5
select '1' + 1, 1 + '2', '3' * 2.5, '10' / '2'::int
select a + '1', a = '2', b = 'two', c > '2' from t order by 1, 2, 3, 4
select a = 2.0, a < 2.5, c = 7, c = 7.0::float8 from t order by 1, 2, 3, 4
select date '2020-01-01' + 5, date '2020-01-10' - 3, '2020-01-01'::date + '1 day'::interval, '2020-01-01' - date '2019-01-01'
select date '2020-01-01' < timestamp '2020-01-01 00:00:01', timestamp '2020-01-01' = date '2020-01-01', date '2020-01-01' = '2020-01-01'
select now() is not null, current_timestamp = now(), current_date = now()::date
select sum(i2), avg(i2), sum(f), avg(f), min(f), max(d1), count(j) from x
select sum(k), avg(k), sum(v), avg(v) from w
select max(ts), min(ts), max(flag::int) from x
select count(distinct d1), count(distinct flag), count(distinct (a, b)) from x, t
select count(distinct a + 1) filter (where a is not null), sum(distinct c) from t
select a, b from t where b > 'o' and b <= 'two' order by 1, 2
select a from t where b like '%o%' and b not like 't%' order by 1
select a from t where b ~ '^t' order by 1
select a from t where b ~* 'ONE' order by 1
select b || a from t order by 1
select b || null from t
select b || '-' || a || '-' || c from t order by 1
select concat(a, b, null, c), concat_ws('-', a, b) from t order by 1
select upper(b), initcap(b), length(b), reverse(b), md5(b) from t order by 1
select lpad(b, 5, '*'), rpad(b, 5), strpos(b, 'o'), split_part('a,b,c', ',', 2), ascii('a'), chr(98) from t order by 1
select to_char(date '2020-03-05', 'YYYY-MM-DD')
select date_trunc('hour', ts), extract(hour from ts), extract(dow from d1), extract(quarter from d1) from x order by 1, 2, 3, 4
select age(timestamp '2020-03-01', timestamp '2019-01-15')
select ts - interval '1 hour', ts - ts, ts::date - d1 from x order by 1, 2, 3
select d1::text, ts::text, f::text, flag::text, i2::text from x order by 1
select '{"b": 1, "a": [1, 2, {"c": null}]}'::jsonb, '[1, "x", true]'::jsonb -> 2, '{"a": 1}'::jsonb ? 'a', '{"a": {"b": 2}}'::jsonb #>> '{a,b}'
select (j ->> 'a')::int from x where j ->> 'a' ~ '^[0-9]+$'
select cast(a as text), cast('5' as int), cast(2.7 as int), cast(null as text) from t order by 1
select 'a'::char(3) = 'a', 'abc'::varchar(2), 'x'::text::varchar(1), 123::varchar(2)
select 1.10 = 1.1, 1.10::text, 1e2, 1.5e-3, .5, 0.00
select 9223372036854775807 + 1
select 2147483647 + 1
select 32767::smallint + 1::smallint
select 1 / 0
select 1.0 / 0
select 1::float8 / 0
select mod(5, 0)
select 'NaN'::float8 > 1, 'infinity'::float8, '-inf'::float8, 'NaN'::numeric
select '2020-02-30'::date
select 'x'::bool
select '99999999999'::int
select ''::int
select '1.5'::int
select 'abc'::jsonb
select '{"a"'::jsonb
select '12:30'::time, time '01:02:03', '25:00'::time
select 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, 'xyz'::uuid
select '\x4142'::bytea, 'abc'::bytea, length('\x4142'::bytea)
select a from t where a in ('1', '2') order by a
select a from t where a in (1, 2.5, null) order by a
select a from t where (a, 'x') = (1, 'x')
select a from t where a = any (array['1', '2']::int[])
select coalesce(a, 0), coalesce(null, b), coalesce(a, c, 1.5) from t order by 1, 2, 3
select case when true then 1 else 2.5 end, case when true then null else 'x' end, case when true then '1' else 2 end
select case a when 1 then 'x' when '2' then 'y' end from t order by 1
select nullif(a, '1'), nullif('a', 'a'), nullif(1, 1.0) from t order by 1
select greatest('a', 'b'), least(date '2020-01-01', '2019-01-01'), greatest(1, '2')
select a from t union select '5' order by 1
select a from t union select 2.5 order by 1
select 1 union select 'x'
select null union select 1 order by 1
select 'a' union select b from t order by 1
values (1, 'a'), ('2', 'b'), (3.5, null) order by 1
values (1), ('x')
values (1, 2), (3)
select * from (values (1), (2)) v where column1 > 1
select a from t order by b collate "C", a
select a from t order by a using <
select -a, - -a, +a from t order by 1
select not a = 1 from t order by 1
select a = 1 = true from t order by 1
select a from t where a is not distinct from 2 and true order by a
select a from t where not a is null and not b is null order by a
select a is null = false from t order by 1
select (a is null) is false, (a > 1) is unknown from t order by 1, 2
select a between 1 and 2 and b = 'one' from t order by 1
select 2 between 1 and null, 5 between null and 3
select 'b' between 'a' and 'c', 2 not between 3 and 1
select b like null, null like 'a' from t order by 1
select 'a_c' like 'a\_c', 'abc' like 'a\_c', 'a%' like 'a!%' escape '!'
select position('b' in 'abc'), overlay('abcdef' placing 'X' from 2 for 3), trim(both 'x' from 'xax'), substring('abc' from 2)
select extract(nosuch from date '2020-01-01')
select date_trunc('nosuch', timestamp '2020-01-01')
select upper(1)
select length(5)
select abs('x')
select round('2.5')
select sqrt(-1)
select substring('abc' from 0 for 2), left('abc', -1), right('abc', -1)
select a as a1, a1 from t
select a from t where a1 = 1
select sum(a) as s from t where s > 1
select a as x from t group by x having x > 1 order by x
select a as x from t group by x order by x
select count(*) c from t group by a having count(*) > 1 order by c
select b as a from t order by a
select b as a from t group by a
select a from t group by a, a order by a
select a, a from t order by a
select t.a, s.x as a from t, s order by a
select max(a), a from t group by b
select max(a) from t group by max(a)
select a from t group by rollup (a)
select 1 from t group by ()
select distinct a + 1 from t order by a + 1
select distinct a from t order by a + 1
select distinct on (a + 1) a from t order by a + 1
select count(*) from t order by a
select a from t order by count(*)
select sum(a) from t limit 1
select a from t order by a limit 1 + 1
select a from t order by a limit '2'
select a from t order by a limit 2.5
select a from t offset null
select all a from t order by a
select a from only t order by a
select * from t as t (x, y) order by 1, 2, 3
select x from t as q (x) where q.x = 1
select t.* from t as q
select q.*, 1 from t q order by 1, 2, 3
select * from t q1, t q2 where q1.a = q2.a and q1.a = 1
select q1.*, q2.a from t q1 join t q2 using (a) where a = 1 order by 1, 2, 3, 4
select * from t join u using (a, b)
select * from t join u on a = a
select * from (t join s on t.a = s.x) order by 1, 2, 3, 4, 5
select * from (t join s on t.a = s.x) as j order by 1, 2, 3, 4, 5
select j.a from (t join s on t.a = s.x) as j order by 1
select * from t cross join lateral (select t.a) as l (z) order by 1, 2, 3, 4
select * from t, (select t.a) q
select * from t, lateral (select nosuch.a) q
select (select a from t where a = 1), (select b from t where a = 1)
select (select count(*) from t q where q.a = t.a) from t order by 1
select a from t where (select count(*) from s where x = a) = 1 order by a
select a from t where a = (select x from s where x = a and y = 10) order by a
select a, (select max(x) from s where x < t.a) + 1 from t order by 1, 2
select sum((select count(*) from s where x = a)) from t
select a, sum((select count(*) from s where x = t.a)) from t group by a order by a
select a from t group by a having a in (select x from s) order by a
select a, (select count(*) from s where s.x = t.a) from t group by a order by a
select a, (select count(*) from s where s.y = t.c) from t group by a
select (select sum(a) from t where a > (select min(x) from s))
select * from s where (x, y) in (select a, a * 10 from t) order by 1, 2
select * from s where (x, y) = (select 1, 10)
select * from s where x = all (select a from t where a = 1) order by 1, 2
select * from s where x <> any (select a from t) order by 1, 2
select * from s where not x = any (select a from t) order by 1, 2
select * from s where y not in (1, null) order by 1, 2
select * from s where y in (select null::int) order by 1, 2
select x from s where exists (select x from t where a = x) and not exists (select 1 from u where a = x) order by 1
select 1 where exists (select 1 from t where a = 1) = true
select exists (select 1 from t where a = 1) and exists (select 1 from s where x = 77)
with a as (select 1 as x), b as (select x + 1 as x from a) select * from a, b
with t as (select 5 as a) select a from t
with q as (select a from t) select * from q where exists (with q as (select 1 as z) select z from q where z = 1) order by 1
with q as (select a from t) select (select count(*) from q) from s order by 1
with q as materialized (select a from t) select * from q order by 1
with q as (select a from nosuch) select 1
with q as (select 1), q as (select 2) select * from q
select * from q
select count(*) from v2 join agg_view using (a)
select v.a from v group by v.a order by v.a
select * from v where b = 'two' order by 1
select nosuch from v
select c from v
select a, (select count(y) + coalesce(sum(y), t.a) from s where x = a), (select count(*) from s where a = x and y > 5) from t order by 1, 2, 3
select a, (select max(y) from s where x = a + 1 and y is not null), (select min(y) filter (where y > 10) from s where x = a) from t order by 1, 2, 3
select a, b, (select count(*) from u where u.a = t.a and u.d = t.b) from t order by 1, 2, 3
select a, (select count(*) from s where y = c), (select sum(s.y) from s, u where s.x = u.a and u.a = t.a) from t order by 1, 2, 3
select a, (select count(distinct y) from s where x = a), (select sum(x * t.a) from s where x = a) from t order by 1, 2, 3
select a, (select max(y) from s where x = a) is null, (select case when count(*) > 1 then 'many' else t.b end from s where x = a) from t order by 1, 2, 3
select a from t where (select count(*) from s where x = a) = 0 order by 1
select a from t where (select count(*) from s where x = a) > (select count(*) from u where u.a = t.a) order by 1
select a, b, count(*), sum(c) from t group by rollup (a, b) order by 1, 2, 3, 4
select a, b, count(*), grouping(a, b), grouping(b) from t group by cube (a, b) order by 1, 2, 3, 4, 5
select a, b, max(c) from t group by grouping sets ((a), (b), ()) order by 1, 2, 3
select a, b, count(*) from t group by a, rollup (b) order by 1, 2, 3
select a, count(*) from t where a > 100 group by rollup (a) order by 1
select a, count(*) from t where a > 100 group by grouping sets ((a)) order by 1
select grouping(a), a + 1, count(*) from t group by rollup (a) having count(*) > 1 order by 1, 2, 3
select coalesce(x, -1), coalesce(x + 1, -2), count(*) from s group by rollup (x) order by 1, 2, 3
select coalesce(x + 1, -2), x + 1 is null, count(*) from s group by rollup (x + 1) order by 1, 2, 3
select x, x not in (select y from s where y is not null), count(*) from s group by cube (x) order by 1, 2, 3
select a, b, c, count(*) from t group by cube (a, (b, c)) order by 1, 2, 3, 4
select a, b from t group by (a, b) order by 1, 2
select a, b, count(*) from t group by grouping sets (rollup (a, b), cube (a)) order by 1, 2, 3
select a, count(*) from t group by distinct rollup (a), rollup (a) order by 1, 2
select a, count(*) from t group by rollup (a), rollup (a) order by 1, 2
select grouping(a) from t
select grouping(c) from t group by a
select a from t where grouping(a) = 0
select a, count(distinct b), count(*) filter (where c > 2) from t group by rollup (a) order by 1, 2, 3
select a, (select count(*) from s where s.x = t.a) from t group by rollup (a) order by 1, 2
select a from t group by () order by 1
select count(*) from t group by ()
select a, count(*) from t group by rollup (1) order by 1 nulls first
select variance(a), var_samp(a), var_pop(a), stddev(a), stddev_samp(a), stddev_pop(a) from t
select variance(c), var_pop(c), stddev(c), stddev_pop(c) from t
select variance(k), stddev(k), var_pop(v), stddev(v) from w
select b, variance(a), stddev(c), var_pop(a), stddev_pop(a) from t group by b order by b
select variance(a) from t where false
select variance(distinct a), stddev_pop(distinct a), count(*) from t
select variance(distinct x - 2), var_pop(distinct 2 - x), stddev(distinct y) from s
select a, var_samp(distinct c), stddev_samp(distinct -c) from t group by a
select var_pop(distinct n) filter (where n <> 2), stddev(distinct n) from (values (1), (-1), (2), (-2), (2), (null), (0)) q (n)
select variance(distinct a) from t where false
select var_pop(distinct n), variance(n), stddev(n), stddev_pop(distinct n) from (values (1.5), ('NaN'::numeric), (1.50)) q (n)
select var_pop(n), variance(n), stddev(n), stddev_pop(n) from (values ('NaN'::numeric)) q (n)
select var_pop(n), variance(distinct n), stddev(n) from (values (1.5), ('infinity'::numeric), ('-infinity'::numeric)) q (n)
select n, var_pop(n) over (order by n rows 1 preceding), stddev(n) over (order by n rows 1 preceding) from (values (1.5), ('NaN'::numeric), (1.50), (7)) q (n)
select stddev(x) filter (where x > 1), var_samp(y) from s
select variance(2) from t
select variance(b) from t
select stddev() from t
select stddev(a, c) from t
select a from t where variance(a) > 1
select a, stddev(c) + 1 as z from t group by a having count(*) > 1 order by 1
select 'abc' similar to 'a%', 'abc' similar to '(b|c)%', 'abc' similar to 'a_c', 'abc' not similar to '%(b|d)%', 'a' similar to null
select 'a.c' similar to 'a.c', 'abc' similar to 'a.c', 'a%c' similar to 'a\%c', 'abc' similar to 'a\%c', 'a%c' similar to 'a#%c' escape '#'
select 'aab' similar to 'a+b', 'aab' similar to 'a{2}b', 'xyz' similar to '[x-z]*', 'a^b$' similar to 'a^b$', 'b' similar to '[^a]'
select b from t where b similar to '%(ne|wo)' order by b
select 'abc' similar to 'a%' escape 'xy'
update t set c = s.y from s where t.a = s.x and s.y = 10 returning t.a, c, s.x, s.y
select * from t order by 1, 2, 3
update t set b = u.d || '!', c = t.c + 1 from u where u.a = t.a and u.a = 3
update t q set c = 0 from s as r, u where q.a = r.x and r.x = u.a and q.a = 2 and u.d = 'two'
select * from t order by 1, 2, 3
update t set c = 1 from t where true
update t set c = 1 from s where t.a = s.nosuch
update t set c = z.n from (select x, count(*) as n from s group by x) z where z.x = t.a returning *
update t set c = 1.5 from s left join u on u.a = s.x where s.x = t.a and u.a is null returning t.*, u.d
select * from t order by 1, 2, 3
delete from w using s where w.k = s.x and s.y = 10 returning w.k, w.v, s.x
select * from w order by 1, 2
delete from w q using s r where q.k = r.x
delete from w using nosuch where true
select * from w order by 1, 2
with m as (select max(x) as top from s) delete from w using m where w.k < m.top
insert into w values (1, 2), (2, 2), (3, null)
select * from w order by 1, 2
select '{"a": 1, "b": 2}'::jsonb || '{"b": 3, "c": null}'::jsonb, '[1]'::jsonb || '[2, 3]'::jsonb, '[1]'::jsonb || '{"a": 1}'::jsonb, '{"a": 1}'::jsonb || '[]'::jsonb
select '1'::jsonb || '"x"'::jsonb, '[]'::jsonb || '2'::jsonb, '{}'::jsonb || '{"z": 1}'::jsonb, '[1]'::jsonb || null, '{}'::jsonb || '{}'::jsonb
select '{"a": 1, "b": 2}'::jsonb - 'a', '["a", "b", 1, "a"]'::jsonb - 'a', '[1, 2, 3]'::jsonb - 1, '[1, 2, 3]'::jsonb - (-1), '[1]'::jsonb - 7, '{"a": 1}'::jsonb - 'zz'
select '1'::jsonb - 'a'
select '{"a": 1}'::jsonb - 1
select '5'::jsonb - 0
select jsonb_build_array(1, 'x', null, true, 2.50, '{"a": [1]}'::jsonb, date '2020-01-02', timestamp '2020-01-02 03:04:05'), jsonb_build_array()
select jsonb_build_object('a', 1, 'b', null, 'a', 'again', 3, 'three', true, 1.0), jsonb_build_object()
select jsonb_build_object(timestamp '2020-01-02 03:04:05', date '2020-01-02', date '2020-01-02', 1)
select jsonb_build_object('a')
select jsonb_build_object(null, 1)
select jsonb_build_object('k', b, 'n', c) from t order by 1
select jsonb_build_object('x', j) || '{"y": 1}', j - 'a' from x where j is not null order by 1
select jsonb_strip_nulls('{"a": null, "b": [null, {"c": null, "d": 1}], "e": {}}'), jsonb_strip_nulls('[null]'), jsonb_strip_nulls('null')
select to_jsonb(1.50), to_jsonb('x'::text), to_jsonb(true), to_jsonb(null::int), to_jsonb(1e20::float8)
select pi(), scale(1.50), scale(3::numeric), scale(-0.001)
select timestamp '2020-07-01 12:00' at time zone 'Europe/Berlin', timestamptz '2020-07-01 12:00+00' at time zone 'America/New_York', timestamp '2020-01-01 00:00' at time zone 'asia/kolkata'
select timestamp '2020-03-29 02:30' at time zone 'Europe/Berlin', timestamp '2020-10-25 02:30' at time zone 'Europe/Berlin', timestamp '2020-03-08 02:30' at time zone 'America/New_York', timestamp '2020-11-01 01:30' at time zone 'America/New_York'
select timestamptz '2020-10-25 00:30+00' at time zone 'Europe/Berlin', timestamptz '2020-10-25 01:30+00' at time zone 'Europe/Berlin', timestamptz '2045-07-01 00:00+00' at time zone 'Australia/Sydney'
select timestamptz 'infinity' at time zone 'Europe/Berlin', timestamp '-infinity' at time zone 'Asia/Tokyo', timestamptz '1890-01-01 00:00:00.123456+00' at time zone 'Europe/Berlin', timestamp '1969-12-31 23:59:59.999999' at time zone 'Pacific/Auckland'
select timestamp '2020-07-01 12:00' at time zone 'UTC', timezone('Europe/London', timestamptz '2020-07-01 12:00+00'), timezone('europe/LONDON', timestamp '2020-07-01 12:00')
select timestamp '2020-07-01' at time zone 'Mars/Olympus'
select ts at time zone 'Asia/Tokyo' from x order by 1
select string_agg(b, ',' order by b) from t
select string_agg(b, ', ' order by c desc, b) from t
select a, string_agg(b, '-' order by b) from t group by a
select string_agg(distinct b, ',' order by b desc) from t
select string_agg(distinct b, ',') from t
select string_agg(b, ',' order by b) filter (where a > 1) from t
select string_agg(b, a::text order by b, a) from t
select string_agg(b, null order by b) from t
select string_agg(null, ',') from t
select string_agg(b, ',') from t where a > 1000
select string_agg(a, ',') from t
select string_agg(b) from t
select string_agg(a::text, ',' order by a) || '!' from t
select string_agg('\x0102'::bytea, '\xff'::bytea) from s
select string_agg(distinct b, ',' order by a) from t
select array_agg(a order by a) from t
select array_agg(a order by a nulls first) from t
select array_agg(a order by a desc) from t
select array_agg(distinct a order by a) from t
select array_agg(distinct a) from t
select array_agg(b order by b) from t
select array_agg(c order by c) from t
select array_agg(distinct c order by c) from t
select array_agg(b || ' "q" {x}' order by b) from t
select array_agg(nullif(b, 'one') order by b), array_agg(''::text order by a), array_agg('NULL'::text order by a), array_agg('nul'::text order by a), array_agg('a\b'::text order by a), array_agg('') from t
select array_agg('') from t
select array_agg(flag order by d1), array_agg(ts order by ts), array_agg(d1 order by d1), array_agg(f order by f), array_agg(i2 order by i2), array_agg(j order by d1) from x
select a, array_agg(b order by b) from t group by a
select array_agg(a order by a) from t where a > 1000
select array_agg(a order by a) = '{1,2,2,2,3,NULL}' from t
select jsonb_agg(a order by a) from t
select jsonb_agg(b order by b, a) from t
select jsonb_agg(c order by c) from t
select jsonb_agg(j order by d1), jsonb_agg(ts order by ts), jsonb_agg(flag order by d1) from x
select jsonb_agg(distinct a order by a desc) from t
select jsonb_agg(jsonb_build_object('a', a, 'b', b) order by a, b) from t
select jsonb_agg(a order by a) filter (where a = 2) from t
select jsonb_object_agg(b, a order by a) from t where b is not null
select jsonb_object_agg(x, y order by y) from s
select jsonb_object_agg(coalesce(b, 'k'), c order by c) from t
select jsonb_object_agg(b, a) from t
select jsonb_object_agg(a, a) from t where a > 1000
select a, jsonb_object_agg(b, c order by c) from t where b is not null group by a
select bit_and(a), bit_or(a), bit_xor(a) from t
select a, bit_and(v), bit_or(v), bit_xor(v) from t join w on a = k group by a
select bit_and(k), bit_or(k), bit_xor(k), bit_xor(distinct k) from w
select bit_xor(a), bit_xor(distinct a) from t
select bit_and(-a), bit_or(-a), bit_xor(-a) from t
select bit_or(a) from t where a > 1000
select bit_and(b) from t
select stddev(f), stddev_pop(f), stddev_samp(f), variance(f), var_pop(f), var_samp(f) from x
select var_pop(f), var_samp(f), stddev_pop(f), stddev_samp(f) from x where f > 1
select var_pop(f), var_samp(f) from x where f > 1000
select variance(a::float8), stddev(a::real), var_pop(a::float8 + 1e9) from t
select var_pop(v::float8) filter (where v > 2), stddev_pop(distinct v::float8) from w
select var_pop('NaN'::float8), var_samp(f / 0.5) from x
select variance('1e200'::float8) from t
select (select string_agg(u.d, ',' order by u.d) from u where u.a = t.a) from t
select (select array_agg(s.y order by s.y) from s where s.x = t.a and s.y > t.c) from t
select t.a, l.names from t, lateral (select string_agg(u.d, ',' order by u.d desc) as names from u where u.a <= t.a) l
select a, string_agg(b, ',' order by b), count(*) from t group by rollup (a)
select string_agg(b, ',' order by 1) is null from t where a > 100
select sum(a order by b), min(a order by a desc), count(distinct a order by a) from t
select count(distinct a order by b) from t
select array_agg(a) || 1 from t
select string_agg(n, '' order by n) from (select string_agg(b, ',' order by b) as n from t group by a) q
select a, b, c, row_number() over (order by a, b, c) from t
select a, b, rank() over (order by a), dense_rank() over (order by a), percent_rank() over (order by a), cume_dist() over (order by a) from t
select a, b, rank() over (partition by b order by a desc nulls last) from t
select a, b, c, ntile(2) over (order by a, b, c), ntile(3) over (order by a, b, c), ntile(100) over (order by a, b, c) from t
select a, ntile(0) over (order by a) from t
select a, ntile(null) over (order by a) from t
select a, b, c, lag(b) over (order by a, b, c), lead(b) over (order by a, b, c) from t
select a, b, c, lag(a, 2) over (order by a, b, c), lead(a, 2, -1) over (order by a, b, c), lag(a, 1, c) over (order by a, b, c) from t
select a, lag(a, -1) over (order by a, b, c), lag(a, 0) over (order by a, b, c), lag(a, null) over (order by a, b, c) from t
select a, b, first_value(b) over (order by a, b, c), last_value(b) over (order by a, b, c) from t
select a, b, c, nth_value(b, 2) over (order by a, b, c), nth_value(b, 3) over (order by a, b, c rows between unbounded preceding and unbounded following) from t
select a, nth_value(b, 0) over (order by a) from t
select a, b, c, lag(b, a) over (order by a, b, c), lead(b, a) over (order by a, b, c), lag(a, a - 2, -7) over (order by a, b, c) from t
select lag(a, c - 2, -7) over (order by a), ntile(b) over (order by a) from t
select ntile(b) over (order by a) from t
select a, b, c, lag(b, -a, 'none') over (partition by a order by b, c), lead(c, a, a) over (partition by a order by b, c) from t
select a, b, c, lead(a, nullif(a, 2), 9) over (order by a, b, c) from t
select a, b, c, nth_value(b, a) over (order by a, b, c), nth_value(a, abs(a) + 1) over (order by a, b, c rows between 1 preceding and 1 following) from t where a > 0
select a, nth_value(b, a - 2) over (order by a, b, c) from t
select a, nth_value(b, nullif(a, a)) over (order by a, b, c) from t
select a, nth_value(b, (select max(y) from s)) over (order by a, b, c), lag(b, (select 2)) over (order by a, b, c) from t
select a, lag(a, 1::bigint) over (order by a) from t
select a, lag(a, b) over (order by a) from t
select lag(sum(a), count(*)::int) over (order by a) from t group by a
select * from (select a, b, c, row_number() over (order by a, b, c) as n, lag(b, a - 3) over (order by a, b, c) as l from t) q where n <= 2
select a, sum(c) over () from t
select a, sum(c) over (partition by a), count(*) over (partition by a), avg(c) over (partition by a) from t
select a, b, sum(a) over (order by a), count(*) over (order by a), min(b) over (order by a), max(c) over (order by a) from t
select a, b, sum(c) over (order by a, b, c rows between 1 preceding and 1 following) from t
select a, sum(a) over (order by a, b, c rows 2 preceding), sum(a) over (order by a, b, c rows between 1 following and 2 following) from t
select a, sum(a) over (order by a, b, c rows between 2 preceding and 1 preceding), count(a) over (order by a, b, c rows between current row and unbounded following) from t
select x, y, sum(y) over (order by x range between 1 preceding and 1 following) from s
select x, y, sum(y) over (order by x desc range between 1 preceding and current row) from s
select x, y, sum(x) over (order by y range between 10 preceding and 10 following), count(*) over (order by y nulls first range between unbounded preceding and 5 following) from s
select k, v, count(*) over (order by k range between 1 preceding and 1 following), sum(v) over (order by v range between 1 preceding and current row) from w
select c, count(*) over (order by c range between 1.5 preceding and 0.75 following) from t
select f, count(*) over (order by f range between 1.75 preceding and current row) from x
select d1, count(*) over (order by d1 range between '1 month' preceding and '1 day' following), count(*) over (order by ts range between interval '59 days' preceding and current row) from x
select x, y, sum(y) over (order by x groups between 1 preceding and current row), sum(y) over (order by x groups between 1 following and 1 following) from s
select x, y, sum(x) over (order by x groups 1 preceding) from s
select x, y, sum(y) over (order by x, y rows between unbounded preceding and unbounded following exclude current row), count(*) over (order by x exclude group), count(*) over (order by x exclude ties) from s
select x, first_value(y) over (order by x, y rows between 1 preceding and 1 following exclude current row), last_value(x) over (order by x groups between current row and 1 following exclude ties) from s
select a, count(*) filter (where b is not null) over (partition by a), sum(c) filter (where a > 1) over (order by a) from t
select a, sum(a) over w, count(*) over w from t window w as (partition by b order by a)
select a, sum(a) over (w rows between unbounded preceding and current row) from t window w as (order by a, b, c)
select a, sum(a) over w2 from t window w as (partition by b), w2 as (w order by a)
select a, rank() over w, sum(c) over (w order by a) from t window w as (partition by b)
select a, sum(a) over w from t
select a, sum(a) over (w order by b) from t window w as (order by a)
select a, sum(a) over (w partition by b) from t window w as (order by a)
select a, sum(a) over (w) from t window w as (order by a rows 1 preceding)
select a, sum(sum(c)) over (order by a) from t group by a
select a, rank() over (order by sum(c) desc nulls last, a), count(*) from t group by a
select a, sum(count(*)) over () from t group by a order by a
select b, sum(count(*)) over (partition by b is null) from t group by b
select a, row_number() over (order by a, b, c) + 1 from t order by 2 desc
select a, b from t order by row_number() over (order by a desc, b, c)
select distinct rank() over (order by a) from t
select * from (select a, b, c, row_number() over (partition by a order by b, c) as n from t) q where n = 1
select * from (select a, b, c, row_number() over (partition by a order by c desc nulls last, b) as n from t) q where n <= 2
select * from (select a, b, c, row_number() over (order by a, b, c) as n from t) q where n < 4 and a > 1
select * from (select a, rank() over (order by a) as n from t) q where n <= 2
select * from (select a, b, c, row_number() over (partition by a order by b, c) as n, count(*) over (partition by a order by b, c) as m from t) q where n <= 1
select a from (select a, row_number() over (partition by a order by b, c) as n from t) q where n = 1
select q.n, count(*) from (select row_number() over (partition by a order by b, c) as n from t) q group by q.n
select t.a, (select max(r) from (select rank() over (order by y) as r from s where s.x = t.a) q) from t
select t.a, l.y, l.r from t, lateral (select y, row_number() over (order by y) as r from s where s.x <= t.a) l
select a, lag(a) over (order by a, b, c) is distinct from a from t
select a, sum(a) over (order by a, b, c) - lag(a, 1, 0) over (order by a, b, c) from t
select a, variance(c) over (order by a), stddev(a) over (partition by b), var_pop(c::float8) over (partition by a) from t
select a, bool_and(a > 1) over (order by a), bit_or(a) over (order by a), bit_xor(a) over (order by a) from t
select x, y, max(y) over (order by x, y rows between 1 preceding and 1 preceding), min(y) over (order by x, y rows between 2 following and 3 following) from s
select i2, sum(f) over (order by i2), avg(f) over (order by i2 rows between unbounded preceding and 1 preceding) from x
select row_number() over () from t where a = 2 and b = 'deux'
select count(*) over () from t where false
select a, row_number() over (order by a, b, c) from t where row_number() over () > 1
select a from t group by row_number() over ()
select a from t group by a having row_number() over () > 1
select sum(row_number() over ()) from t
select row_number() over (order by row_number() over ()) from t
select sum(sum(a) over ()) over () from t
select row_number() from t
select row_number(a) over (order by a) from t
select upper(b) over () from t
select sum(distinct a) over () from t
select string_agg(b, ',' order by b) over () from t
select row_number() filter (where true) over () from t
select sum(a) over (rows -1 preceding) from t
select sum(a) over (order by a rows null preceding) from t
select sum(a) over (order by a range -1 preceding) from t
select sum(a) over (groups 1 preceding) from t
select sum(a) over (order by a, b range 1 preceding) from t
select sum(a) over (order by b range 1 preceding) from t
select lag(a, 1, 'x') over (order by a) from t
select lag(a, 1, 2.5) over (order by a, b, c) from t
select a, lag(b, 1, '-') over (order by a, b, c) from t
select a, sum(a) over (partition by a order by b), sum(a) over (order by b partition by a) from t
select count(*), sum(n) from (select sum(c) over (partition by a) as n from t) q
select a, n from (select a, sum(a) over (partition by b) as n from t) q where a = 2
select * from (select a, b, c, row_number() over (partition by a order by b, c) as n from t) q where 2 > n
select * from (select a, b, c, row_number() over (partition by a order by b, c) as n from t) q where n = 2
select * from (select a, b, c, row_number() over (partition by a order by b, c) as n from t) q where n <= 0
select * from (select a, b, c, row_number() over (partition by a order by b, c) as n, lag(b) over (partition by a order by b, c) as l, rank() over (partition by a order by b, c) as r from t) q where n <= 2 and r < 5
select * from (select a, b, c, row_number() over (partition by a order by b, c) as n, lead(b) over (partition by a order by b, c) as l from t) q where n <= 1
select * from (select a, b, c, row_number() over (partition by a order by b, c) as n, row_number() over (partition by a order by c desc nulls last, b) as m from t) q where n <= 1 and m <= 2
select a, b from (select a, b, row_number() over (partition by a order by b, c) as n from t) q where n < 2 and a = 2
select * from (select a, b, c, rank() over (order by a) as n from t) q where n <= 2
select * from (select a, b, c, rank() over (order by a desc) as n from t) q where n < 4
select a, b, c from (select a, b, c, rank() over (partition by a order by b) as n from t) q where n = 1
select a, b, c from (select a, b, c, rank() over (partition by b order by a desc nulls last) as n from t) q where 2 >= n
select * from (select a, c, rank() over (order by c) as n from t) q where n = 3
select * from (select a, c, rank() over (order by c) as n from t) q where n <= 0
select * from (select a, c, rank() over (order by c) as n from t) q where n < -5
select * from (select a, rank() over () as n, rank() over (partition by a) as m from t) q where n <= 1 and m = 1
select * from (select a, b, c, rank() over (partition by a order by b) as r, row_number() over (partition by a order by b) as n from t) q where r <= 2 and n <= 1
select * from (select a, rank() over (order by a) as r, dense_rank() over (order by a) as d, lag(a) over (order by a) as l, row_number() over (order by a) as n from t) q where r <= 3 and d < 3
select a, n from (select a, rank() over (order by a) as n, count(*) over (order by a) as m from t) q where n <= 2 and m > 0
select count(*) from (select f, rank() over (order by f) as n from x) q where n <= 4
select t.a, l.y from t, lateral (select y, rank() over (order by y) as r from s where s.x <= t.a) l where l.r <= 1
select a, (select min(y) from (select y, rank() over (order by y desc) as r from s where s.x = t.a) q where r <= 1) from t
select lag(sum(a), 1, row_number() over ()) over () from t
select sum(sum(a)) filter (where bool_and(true) over ()) over () from t
select sum(sum(a) + row_number() over ()) over () from t
select lag(sum(a), 1, 0) over (), sum(sum(a) + max(a)) over () from t
select lag(sum(row_number() over ())) over () from t
select stddev(null), var_pop(null), count(*) from t
select stddev(b) from t
select stddev(a::float8), stddev(distinct a::float8), var_pop(a::float4), stddev(a) filter (where a > 1), var_samp(c::float8) filter (where c > 1) from t
select stddev(a) over (), var_pop(a::float4) over () from t
select stddev((select stddev((select stddev((select s.y::float8)) from s)) from s)) from t
select stddev((select stddev((select max(y)::float8 from s)) from s)) from t
select sum(a) filter (where max(a) > 1) over () from t
select sum(a) filter (where max(a) > 1) from t
select sum(a) filter (where row_number() over () > 1) from t
select max(x) from (select array_agg(a order by a) as x from t group by b) q
select max(x) over () from (select array_agg(a order by a) as x from t group by b) q
select greatest(array[1, 10], array[1, 9])
select to_jsonb(array[1, 2])
select jsonb_build_array(array[1, 2])
select length(array[1, 2])
select substr(array[1, 2], 1)
select concat(array[1, 2], 'x')
select array_agg(a order by a) is distinct from array[1, 2], array_agg(a order by a) is not distinct from '{1,2,2,2,3,NULL}' from t
select (select array_agg(y order by y) from s), (select (select array_agg(y order by y) from s where s.x = t.a)) is null from t
select md5(array[1])
select coalesce(array_agg(a order by a), array[0]), nullif(array_agg(a order by a), array[1]) from t
select least(array[1], array[2])
select lower(array['a'])
select * from unnest((select array_agg(y order by y) from s)) u
select t.a, g from t, generate_series(1, t.a) g order by 1, 2
select t.a, g.n from t cross join lateral generate_series(t.a, 1, -1) as g (n) order by 1, 2
select t.a, t.b, g from t left join generate_series(2, t.a) g on true order by 1, 2, 3
select t.a, t.b, g from t left join lateral generate_series(2, t.a) g on true order by 1, 2, 3
select t.a, g from t left join lateral generate_series(1, t.a) g on g > 1 order by 1, 2
select t.a, g, n from t left join lateral generate_series(2, t.a) with ordinality as u (g, n) on true order by 1, 2, 3
select * from generate_series(1, 3) with ordinality
select * from generate_series(1, 3) with ordinality as g
select * from generate_series(1, 3) with ordinality as g (v, i)
select g.v, g.ordinality from generate_series(5, 3, -1) with ordinality as g (v) order by 2
select * from unnest(array[1, 2, 3], array['a', 'b']) order by 1
select * from unnest(array[1, 2, 3], array['a', 'b']) with ordinality as u (x, y, n) order by n
select * from rows from (generate_series(1, 2), unnest(array['x', 'y', 'z'])) as r (a, b) order by 1, 2
select * from rows from (generate_series(1, 2), unnest(array['x', 'y', 'z'])) with ordinality order by 3
select * from rows from (jsonb_each('{"a": 1, "b": "x"}'), generate_series(1, 3)) order by 3
select * from jsonb_array_elements('[1, "a", null, [2]]') order by 1::text
select x.value from jsonb_array_elements('[1, "a", null, [2]]') x order by 1::text
select * from jsonb_array_elements_text('[1, "a", null, [2]]') order by 1
select * from jsonb_each('{"b": [1, 2], "a": null}') order by 1
select k, v from jsonb_each_text('{"b": [1, 2], "a": null, "c": "q"}') as e (k, v) order by 1
select * from jsonb_object_keys('{"b": [1, 2], "a": null}') order by 1
select jsonb_object_keys('{"b": [1, 2], "a": null}') order by 1
select x.f, e.key, e.value from x, jsonb_each(x.j) e order by 1, 2
select x.f, e.* from x left join lateral jsonb_each_text(x.j) e on true order by 1, 2
select regexp_split_to_table('the quick  fox', '\s+')
select w from regexp_split_to_table('the fox', '\s*') w order by 1
select regexp_matches('foobarbequebaz', '(b[^b]+)(b[^b]+)', 'g')
select regexp_matches('foobar', 'o.'), regexp_matches('foobar', 'z')
select m from regexp_matches('a1b22', '[0-9]+', 'g') m order by 1::text
select string_to_table('a,b,,c', ',')
select * from string_to_table('a,b,,c', ',', '') order by 1
select * from string_to_table('abc', null) order by 1
select t.b, s from t, string_to_table(t.b, 'o') s order by 1, 2
select generate_series(1, 3)
select generate_series(1, 3), generate_series(1, 2) order by 1
select a, generate_series(1, a) from t order by 1, 2
select a, generate_series(1, a) + 10 as g, b from t order by a, g, b
select generate_series(1, 2), generate_series(1, generate_series(1, 2)) order by 1, 2
select generate_series(1, generate_series(1, 3)) order by 1
select generate_series(1, 3) g, unnest(array[1, 2]) u, string_to_table('a,b,c,d', ',') s order by 3
select distinct generate_series(1, a) from t order by 1
select a from t order by generate_series(1, a), a
select a from t where a in (select generate_series(1, 2)) order by 1
select (select sum(g) from generate_series(1, t.a) g) from t order by 1
select a, (select count(*) from generate_series(1, t.a)) from t order by 1
select a from t where exists (select from generate_series(1, t.a) g where g = 2) order by 1
select a from t where 2 = any (select generate_series(1, t.a)) order by 1
select generate_series(1, 2) g, count(*) from t group by g order by 1
select generate_series(1, a) g, count(*), sum(a) from t group by 1 order by 1
select generate_series(1, a) g from t group by generate_series(1, a) having generate_series(1, a) > 1 order by 1
select a, generate_series(1, count(*)) from t group by a order by 1, 2
select generate_series(1, 3), count(*) from t group by generate_series(1, 3) + 1 order by 1, 2
select generate_series(1, 3) + 1, count(*) from t group by generate_series(1, 3) + 1, generate_series(1, 3) order by 1, 2
select generate_series(1, 3) + 1, generate_series(1, 3) + 2, count(*) from t group by generate_series(1, 3) + 1 order by 1, 2, 3
select generate_series(1, a) + 1, sum(a) from t group by generate_series(1, a) order by 1
select generate_series(1, a), count(*) from t group by generate_series(1, a) + 1
select generate_series(1, count(*)) from t order by 1
select a, generate_series(1, row_number() over (order by a, b, c)) from t order by 1, 2
select unnest(array_agg(a)) from t order by 1
select x, count(*) from (select unnest(array_agg(b order by b)) x from t group by a) q group by x order by 1
select a, unnest(array_agg(b order by b)) from t group by a order by 1, 2
select a, u, n from (select a, array_agg(b order by b) g from t group by a) q, unnest(q.g) with ordinality as u (u, n) order by 1, 2, 3
select q.a, u.* from (select a, array_agg(b order by b) g, array_agg(c order by c) h from t group by a) q, unnest(q.g, q.h) as u (x, y) order by 1, 2, 3
select case when a > 1 then generate_series(1, 2) end from t
select coalesce(generate_series(1, 2), 1) from t
select a from t where generate_series(1, 2) = 1
select count(generate_series(1, a)) from t
select a from t having generate_series(1, 2) > 1
select a from t limit generate_series(1, 2)
select * from generate_series(1, generate_series(1, 2)) g
select * from t join s on generate_series(1, 2) = t.a
values (generate_series(1, 2))
select generate_series(1, 2, 0)
select * from generate_series(1, 2, 0)
select generate_series('a', 2)
select generate_series(1, '3')
select generate_series('1', '3')
select generate_series(1::int2, 3::int2)
select generate_series(1, 3.5)
select generate_series(1, 5000000000, 2000000000)
select generate_series(1.5, 3, 0.5)
select generate_series(1, 2::float8)
select generate_series(1)
select generate_series(1, 2, 3, 4)
select * from generate_series(timestamp '2020-01-31', '2020-04-30', '1 month') order by 1
select * from generate_series('2020-01-01', '2020-01-03', interval '1 day') order by 1
select * from generate_series(date '2020-01-01', date '2020-01-03', '1 day') order by 1
select * from generate_series(timestamptz '2020-01-01', timestamp '2020-01-02', interval '12 hours') order by 1
select x.d1, g from x, generate_series(x.d1, x.d1 + 2, '1 day') g order by 1, 2
select unnest('{1,2}')
select unnest(1)
select unnest(array[1], array[2])
select unnest('{a,"b c",NULL,"NULL"}'::text[]), unnest('{{1,2},{3,4}}'::int[])
select unnest('{1,x}'::text[])::int
select unnest(null::int[])
select jsonb_array_elements('{}')
select jsonb_array_elements('1')
select * from jsonb_each('[]')
select * from jsonb_each_text('[]')
select jsonb_object_keys('[]')
select jsonb_object_keys('1')
select jsonb_array_elements(null)
select regexp_split_to_table('abc', 'b', 'g')
select regexp_split_to_table('aBc', 'b', 'i')
select regexp_split_to_table('abc', '')
select * from t, generate_series(1, s.x) g, s
select * from s, t right join generate_series(1, s.x) g on true
select g from generate_series(1, 3) g (a, b)
select * from generate_series(1, 2) g, generate_series(g.g, 3) h order by 1, 2
select * from generate_series(1, 2) g, lateral (select g * 10 as x) y, generate_series(x, x + 1) z order by 1, 2, 3
select * from t, lateral (select a + 1 as n, b as m) q order by 1, 2, 3, 4, 5
select t.a, q.n from t, lateral (select a + 1 as n where a > 1) q order by 1, 2
select t.a, q.n from t left join lateral (select a + 1 as n where a > 1) q on true order by 1, 2
select t.a, q.n from t, lateral (select x from s where s.x = t.a) q (n) order by 1, 2
select t.a, q.* from t, lateral (select u.g, s.y from generate_series(1, t.a) u (g) join s on s.x = u.g) q order by 1, 2, 3
select t.a, q.* from t, lateral (select u.g, (select count(*) from s where s.x = u.g and s.y > t.a) from generate_series(1, t.a) u (g)) q order by 1, 2, 3
select t.a, q.* from t, lateral (select max(g), count(*) from generate_series(1, t.a) g) q order by 1, 2, 3
select t.a, q.* from t, lateral (select g from generate_series(1, t.a) g order by g desc limit 1) q order by 1, 2
select t.a, q.* from t, lateral (select distinct g / 2 from generate_series(1, t.a + 2) g) q order by 1, 2
select t.a, q.* from t, lateral (select g from generate_series(1, t.a) g union all select g * 10 from generate_series(1, t.a) g) q order by 1, 2
select t.a, q.* from t, lateral (select g from generate_series(1, 3) g except select g from generate_series(1, t.a) g) q order by 1, 2
select t.a from t where (select max(g) from generate_series(1, t.a) g) = 2
select length from length('abc')
select * from abs(-3) a
select * from current_schema()
select u from unnest(array['a,b', 'c"d', 'e\f', '', null]) u order by 1
select array['a,b', 'c"d', 'e\f', '', null, 'null', 'x y']
select count(*) from generate_series(1, 200000) g
select count(*), sum(g) from generate_series(1, 300) g, generate_series(1, 300) h where g < h
select sum(x) from (select generate_series(1, 300000) x) q where x % 7 = 0
select a, string_to_table(b, 'e', 'deux') from t order by 1, 2
select a, unnest(array[1, 2]) as u from t order by u, a limit 3 offset 1
select distinct on (u) a, unnest(array[1, 2]) as u from t order by u, a
select unnest(array[1, 2]) union select unnest(array[2, 3]) order by 1
select a, generate_series(1, 2) from t except all select x, 1 from s order by 1, 2
with q as (select a, generate_series(1, a) g from t) select * from q where g = a order by 1, 2
select g, g % 2 = 0 from generate_series(1, 4) g where g > 1 and g < 4 order by 1
select t.a, g from t, generate_series(1, 3) g where t.a = g order by 1, 2
select t.a, g from t, generate_series(1, t.a) g where t.a = g and t.a = 2 order by 1, 2
select (select generate_series(1, 2))
select (select generate_series(1, 1)), 5
select a, (select generate_series(t.a, 2)) from t where a = 2
select generate_series(1, 2) as x, generate_series(1, 2) as y order by x desc, y
select row_number() over (order by g) from generate_series(1, 3) g
select max(generate_series) from generate_series(1, 3)
select jsonb_agg(g order by g) from generate_series(1, 3) g
select a, jsonb_agg(g order by g) from t, generate_series(1, t.a) g group by a order by a
select key, count(*) from x, jsonb_each(j) group by key order by 1
select e.value ->> 'a' from jsonb_array_elements('[{"a": 1}, {"a": "x"}, {}]') e order by 1
select array[a, 2], array[b, 'x,y'] from t order by a, b
select array[d1, null], array[f, 1], array[flag], array[j] from x order by d1
select u from t, unnest(array[t.a, t.a + 1, null]) u order by 1
select string_to_array('a,b,,c', ','), string_to_array('a,b,,c', ',', ''), string_to_array('', ','), string_to_array(null, ','), string_to_array('abc', null), string_to_array('a b', 'x')
select b, string_to_array(b, 'e') from t order by b, a
select t.b, u from t, unnest(string_to_array(t.b, 'o')) with ordinality u (u, n) order by 1, 2
select unnest(string_to_array('1,2,3', ',')::int[])
select string_to_array('a,b', ',') = array['a', 'b']
select array[1, 2] = array[1, 2]
select array[1, 'x']
select array['a', null, 1]
select array[a, b] from t
select '{1, 2}'::int[]
select '{ "a" , b c , NULL}'::text[]
select '{1,x}'::int[]
select '{1, 2}'::int[] = array[1, 2]
select array[1, 2]::text[], array['1', '2']::int[]
select '{1.50,2}'::numeric[]
select array[1, null]::text, '{}'::int[], '{a'::text[]
select 1 = any ('{1, 2}'::int[])
select string_to_array('1, 2', ',')::int[]
select array[1, 2]::numeric[]
select array[1, 2] = array[1.5, 2]
select array[1, 2] = array['a', 'b']
select '{01,2}'::int[] = array[1, 2], '{1, 2}' = array[1, 2]
select array_agg(a order by a)::text[] from t
select distinct array[a, 1] from t
select array[a, 1] g, count(*) from t group by 1
select '{t,f}'::bool[], '{2020-01-01}'::date[]
select v from jsonb_array_elements_text('[1, "a"]') v order by 1
select t.a, v || 'x' from t, string_to_table(t.b, 'e') as v (p) order by 1, 2
select (select max(v) from jsonb_array_elements_text('["b", "a"]') v)
select a from t, jsonb_array_elements('[1, 2]') a order by 1
select (select count(*) from s where x::text = v) from jsonb_array_elements_text('[1, 2]') v order by 1
select q, n from (select a, 1 / (a - 2) as q from t) z, (values (0), (5)) v (n) where n = 5 or z.a = 1
select q, n from (select a, 1 / (a - 2) as q from t) z, (values (5), (0)) v (n) where n = 5 or z.a = 1
select q, n from (select a, 1 / (a - 9) as q from t) z, (values (0), (5)) v (n) where n = 5 or z.a = 1 order by 1, 2
select 'ab '::varchar(10) = 'ab'::char(7), 'ab'::char(7) <> 'ab  '::varchar, 'ab '::varchar < 'ab'::char(7), 'ab '::varchar <= 'ab'::char(7)
select 'ab '::text = 'ab'::char(7), 'ab'::text = 'ab'::char(7), 'ab '::varchar = 'ab', 'ab '::varchar = 'ab'::text
select 'ab'::char(7) = 'ab ', 'ab  ' = 'ab'::char(7), 'ab'::char(7) > 'ab ', ' ab' = 'ab'::char(7), 'ab '::bpchar = 'ab'
select 'ab '::varchar is distinct from 'ab'::char(7), 'ab'::char(7) is not distinct from 'ab ', 'ab '::text is distinct from 'ab'::char(7)
select case 'ab '::varchar when 'ab'::char(7) then 1 else 2 end, case 'ab'::char(7) when 'ab ' then 1 else 2 end, nullif('ab '::varchar, 'ab'::char(7))
select 'ab '::varchar in ('ab'::char(7)), 'ab '::varchar not in ('ab'::char(7)), 'ab'::char(7) in ('x', 'ab '), 'ab '::varchar between 'ab'::char(7) and 'ab'::char(7)
select 'ab '::varchar in ('ab'::char(7), 'x'::char(7)), 'ab'::char(7) in ('ab '::varchar, 'x'::varchar)
select 'ab '::varchar in (select 'ab'::char(7)), 'ab '::varchar = any (select 'ab'::char(7)), ('ab '::varchar, 1) = ('ab'::char(7), 1)
select l.a, r.b from (select (b || ' ')::varchar(9) as k, a from t) l join (select d::char(9) as k, d as b from u) r on l.k = r.k order by 1, 2
select l.a, r.b from (select (b || ' ')::varchar(9) as k, a from t) l left join (select d::char(9) as k, d as b from u) r using (k) order by 1, 2
select l.a, r.b from (select d::char(9) as k, d as b from u) r full join (select (b || ' ')::varchar(9) as k, a from t) l using (k) order by 1, 2
select l.a from (select (b || ' ')::varchar(9) as k, a from t) l where l.k in (select d::char(9) from u) order by 1
select l.a from (select (b || ' ')::varchar(9) as k, a from t) l where l.k not in (select d::char(9) from u where d is not null) order by 1
select l.a from (select (b || ' ')::varchar(9) as k, a from t) l where exists (select from u where d::char(9) = l.k) order by 1
select l.a from (select (b || ' ')::varchar(9) as k, a from t) l where l.k = 'two'::char(5) or l.k >= 'two'::char(5) order by 1
select l.a from (select (b || ' ')::varchar(9) as k, b::char(7) as c, a from t) l where l.k in (l.c, 'x'::char(7)) order by 1
