"""LMDB, as liblmdb 0.9.36 wrote it: read without it, and safe where it would crash."""

import base64
import hashlib
import io
import pickle
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from genmodel.data.block import Block
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

# 60 images under the SHA-1 of their numbers, of 4 or 60 px, and a key that is none; made with the package lmdb 3.0.0
WRITTEN = (
    "c-rlq53HSKeaGK(ZhL!sdv6Qa03%IcT5GLXpZ|XlYU%2{RcRVlVIxd<{(`J@492YH3ar`8h+BtYI#Q}3ZZU>wGYzuMDO(Kd*sQuRW0+~W&462g"
    "If6tHnC^G(?s?nFS>}5LyENZ#Kkq%~p7gxW^ZuUSzvtvVZPN@jwea)kU;pO=z2<nG);>%%|F?d)sOHDi@bC8;2!bF8f*=TjAP9n9F7;m4{eQnb"
    "e}D1ujK#-`PCR>a=8NV7K@bE%5ClOG1VPYCrT%fx=9+i*4ldoh>dBS6S3WYkW%j|DjWgd}v1ZAh70*rQ=^Oj+?A<&0t>ycd9O<1udF}GYr*=-g"
    "e}XN2VA<5f=4EG2?4R1R;-@w1x?%81!TLssEEucKSe9dsvIs4MXQdR)yi?XDual5@X7PQOEc{&GSj&Cj$vP2u44x+@c`)=F3xdw3onSuXSa094"
    "{VlW8=S<U^X1C34y_6o8434RR+1A~;{I&G3dfV2EckVfm)HB!Q+j{FJ*WPybL~~AUZa?tdR}9C~K}S}7v{_bHlT%5iLeH`*HH2Ui&EM(}yNtK%"
    "hwu7IGx7GBxyCMQE<dC9S5MyakJk={+xF(|TMurzdhg-7IJz-57OiAtLU<Le5sK6G=Olv_T3MN^^v>xmm()c&nT7W)4!-cI%-IXCGddnz`9DYN"
    "Hy@3i7|u$oRHElXo8maFnX)Pbt3@z{8BGh3tByh1@n&_`zn|TS;Y!hh)KV1l$p~FI&B9g9q%@K{#fnLV=M;_VvQjS`x%+UtQdd3Rdt%p-ee(E~"
    "+B~$0V@0^2d5TGx8dS_udFhfa+RG>nSElO1(s(x6D8AB(p-n_#yl|_Gb)Hv>DJgRdfw97s_L<@<%34&XXj%Q`%Ssz9KfAH{)GPkx{y#t7CQrBC"
    "s|xeF7Hecp1J`xZI;&;%iU}iREWsBc#`Ke?PJ5~ot)B=RYf{=-<|>OyQ6BP%{y1r>Eh-wVwXK~Z`ob^VY$s+IKd*OWO>@Kk{?CPvY<}W+n|yyb"
    "Iup+1thGpfaQVUblA^TQ7aKjLJ+hV7Ty+{<eQ*9)KKc0@d%qf=`rdQLk3QXIPs6JaQ6x@YnOTg^78VUN)q56$@>W@9a_KVq{2Tw`!@bG7&c37B"
    "y|T$i`%8c3>;GntAH8YwMwFC4i=@a*xl|@1<uNXORw*P(8zNGk^Tmzl4@dXj(utu>Jk2A>lmmB8I!2Zu7brX`Ev#oLY3UW^`_RQE`QYno8zXGG"
    "dH%zX2sY9t&RNNPX3E7vbw!3OONdnjOTM9kbUs9$d>zjwanlz&F`Si+dJq+qEo-KQA;%~tyWpj#@MYwsUPPv~8gEwfTR-24W3@jQ<8mk|JIWp*"
    "#;9G%WFJTQEL+Z~Aj#M%b`GC);Hz!yxNr7ebI-arTy?@q{j@s|KXP;<1vLXy@{3L6B1{=Wzc?cc7t98i82!=8cNzVY^~=Y+bmMc)cRu*Ee{7_e"
    "s?4Q|iCH1I2&qtomrm14a3u!;9IPsdl`*~a+27gIiJ?uDB`>73SyL5BD9wwrju)>~th!PQnVr%$xh^(&^!(pHwj!@Pv-#Jv9{c{sN3Mv}CUA-a"
    ">pAsjij1!<*~um0vNFX;uNAcfoxE}9@0nw@b?x@%3!C5fwpX3FB4hT?!<FO|)0(o1pyn}9UyzxVR%E3M1$3b1g}mA*8^&A7ukHGSP7H0yZ48VI"
    "sl3n8GpD4Cj#X)st}!`Jb&AoeoospF2M>RwtxH#k-dCSk_Lu#U-py&@V$RWOitb=)7DDrEcoCj@H>$=)FfO?t&n7$mbVn!JS&3w7VkUV{3ni#W"
    "D22K;MLmCZl04rfYM=O+-P68@H+G`!UqYq~BvSRZTAis#P)Vqid<DzA(te2hs+_l7R_Yo3z?a$_y!E3!N-uBxmys*Q0>yLGl>4<$)KMoY)m~7c"
    "ra~E<rRAfLrxt5Gn;d>-rW37AEH~LxJDH{6wMIh?w&RX^ekzoO4w|AgI(4zh`H$^BmI>syd$X%9-|SAX$wWKvB@55#nm3$y%@-~n?KN+B@ijvb"
    "1VIo4K@bE%5ClOG1VIo4K@bE%5ClOG1VIo4K@bE%5cG0tvVHcG-2Z>Zz8e7m00000000000000000000000000002MDGctrg&+tz*;@XR-2cCJ"
    "&7%MS00000000000000000000000000002s6bAR*LJ$O<Y|XqR_y3!FF9QGo00000000000000000000000000001|Fu3m)f*|N*YgPNK-(1>U"
    "+dQ=Dmga^f|1kND39;(Ez57;9E}dWbgV{r~k1ji{KR5gLGiv6AX4BF*_4%duuQ+eTzW&Fiw=Y{ey>I!I6BkS#>OVVm?f)`Pf8pnfX7|n4zy79h"
    "{SCXyO@=j>EWEnD@tpbObWl24CabfRD=vd#S}Pw!D#3@SwYh!A_P5MVpEFHwn%y?H_0ol}EzmJFIQ_aim%o-CR&U#S@y<O5(tS5?`cgCT_L;fH"
    "E^98nrT30M+cftpgW<NldHdFbTdv;Qj-F^#lY=aVxhz%5ky)Ws%04=)OL4|CBZccS`jzkbuh&e>Fn(U|$eL#Uvi@&AbE~}YgwgBb=)p^=yt5@0"
    ">!PW}#mXfsm9c1*Q#SD|b1+*jsm+Ps%viE`wBO8VUi{6B2j_pQ6GNLsTcSzE`NX6Z+%oH}F*QePlZ+wBqIrrcb+O6sUjF1YxAoRduD$K<iAI01"
    "ch*%ipLqU6n`{_d&HAQrCq$0QGFp?&JPWnbgErYJnIbDT<;uBSy?B*FTh<~<RbB_qwa|uZE4=d7sl-jJLWUTHW7>{q%lBXL@lFhFS))-(YOd*8"
    "oba^718<W;NE3N=*>IYbaG{GWcfD}#L#=mTIobQCU;EB=pBd?2-qo0tsG;P<gz`dqo1*qclpuqwHL>7@lH=KA%^zRciFQ^Z)l{PNS=;P61)Ymr"
    "Wmcp$O6D@~w@~z$UjLbIpV5h---Rj*r*IT5`XY4FIwtLF(e#pX#RQgE<u;zaI8K{E0xhqoD%U{H$0RpC>0m4iDtR8bkCIs%Ri_LxfB9X#$-B<J"
    "quIT(+40ui-S58c)1MukzoHF1TS`@qv6^`)iYZ@hPQe$Zc!@p+=47W>-FemDwf=R%{XPD%_x;kEk^V*gV^!9Sa+WAjL@&v5T3Ih^3RSZxW2G?U"
    "<E`YcA6A`cD~c6l|D+uE!cuHeinTub!8#er2EuE_c(lBWO&)#2eaG_Gx>q)T`wQpXdU&)=D6FNS{8)l1HHyF@kKR|s!@$p(EVU|%!SQS|edgnx"
    "Xmh$To`PQI>IF+78_$y<XZ68U%C9!4Ksi2ks&f~9?)eREox6Eo|CimmZ|omwlYup~V2+ALc2*b{>6fCs(xPNj9L>TN7TtI@x##M8I&rLG=o}+8"
    "7@Ep&5#G7zlJPOsTr*9IsSsk~b-Y=9;*s^8XlF%!TF7&`;3dRL<v&(mHF;BrIVPGAvs8oQc(eM}bCaED>zFB=3zJGNgJN2^GBT86W%ao-XUXL$"
    "@i5lKe-1qVi+|W=xp!>pef9%$o5jd1S2<lfrBtcOO(?h|1+gjQuaf*aNhd;L%yH3W^slY_P;Ddn+$)+t`sN*{zj~zi=Aa^#PD`y%8uT927g<9="
    "M5(tV6`a(baTeKlD{|faZ|%g;CYjobU{cQ38Od0#RWL;>lBf;xN@Q6)qlUJVO=iA+(cw1pzv<rI+urosPwyEW(VSw0)}REJl88oFr-h}G8KetI"
    "7)~u%p%=%q$);Bx?L?d9GSymY=93h@a7Md_TB!wc)JrobD3mx?^g^dvJnwFORh#8@AL{#Sj^1}@q?g7dWeH?*Qz(K1?PI9$3fj#W>R$O^Ph+&R"
    "rc*7R-*nRj?db1%xPR_{{7J7rvTu%ba$gf=36_(iE9ZiFpDE2}#R63zRh;51P5emz5@lt{RugF>Bx%yIc%FT+YLI<O<a7?ofxLE^^^sejx~QG?"
    "d-wL=eelQ~509QTrzX&GQg*6ZnoLpDMUgWV?X7l+N)zpm^yH7snlhlW)IL*HPmb3>9j#$iCuzLlhIW&*1SX_TD}CfW2kvb1(e~fyeej>J&yS4m"
    "tLfa-ADXDNp{=79K}fP&HbSPLY3G`xHeQXH5k6P<cVcKu+DS_hvZb0v`!{O520K_+oM6-r))*Y)l&@_X{=a{xwIlYL)wKJ6cGW|x@Tmv{K@bE%"
    "5ClOG1pWWis^O;+Kj!|wzxck>+cW$m|Nh^cdk6pk00000000000000000000000000001-!r*>g2!f!Kt<^8d{r^`Sx&QzG000000000000000"
    "00000000000001-!r;DJ2!f!Kt^WoYH~RG"
)


def image(number: int) -> bytes:
    handle, side = io.BytesIO(), 4 if number % 10 else 60
    colour = number * 37 % 256, number * 91 % 256, number * 53 % 256
    Image.new("RGB", (side, side), colour).save(handle, "BMP")
    return handle.getvalue()


def key(number: int) -> str:
    return hashlib.sha1(b"%d" % number, usedforsecurity=False).hexdigest()


def write(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "data.mdb").write_bytes(zlib.decompress(base64.b85decode(WRITTEN)))
    (folder / "lock.mdb").write_bytes(bytes(8192))
    return folder


def test_all_keys_and_their_bytes(tmp_path: Path) -> None:
    folder = write(tmp_path / "bedroom_train_lmdb")
    for source in (open_source(str(folder)), open_source(str(folder / "data.mdb"))):
        listing = listing_of(source)
        assert {member.name for member in listing.members} == {key(number) for number in range(60)}
        assert {member.class_name for member in listing.members} == {"images"}
        assert listing.ignored["a value that is not an image"] == (1, "num-samples")
        again = pickle.loads(pickle.dumps(source))
        found = {member.name: source.read(member) for member in listing.members}
        assert all(found[key(number)] == image(number) for number in range(0, 60, 2))
        assert {member.name: again.read(member) for member in listing.members} == found
        assert all(Image.open(io.BytesIO(content)).size[0] in (4, 60) for content in found.values())


def test_several_are_classes_and_splits(tmp_path: Path) -> None:
    """As LSUN unpacks its zips."""
    for name in ("bedroom_train_lmdb", "church_outdoor_train_lmdb", "bedroom_val_lmdb"):
        write(tmp_path / name)
    listing = listing_of(open_source(str(tmp_path)))
    assert {member.class_name for member in listing.members} == {"bedroom", "church_outdoor"}
    assert len(listing.members) == 180 and sum(member.split == "val" for member in listing.members) == 60
    assert not any(member.refused for member in listing.members)
    assert len(listing_of(open_source(str(tmp_path)), Layout(split="val")).members) == 60


def test_a_block_of_it(make: Callable[..., Block], tmp_path: Path) -> None:
    folder = write(tmp_path / "a_lmdb")
    one, two = (make(str(folder), tmp_path / f"{n}", sizes=[8], workers=n, max_reject_share=0) for n in (1, 3))
    assert len(one) == 60 and one.digest == two.digest


@pytest.mark.slow
def test_cuts_and_flips_end_in_a_line_or_images(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    whole = (folder / "data.mdb").read_bytes()
    rng, told = random.Random(0), list[str]()
    for cut in range(0, len(whole) - 4096, 1500):
        (folder / "data.mdb").write_bytes(whole[:cut])
        with pytest.raises(SourceError) as caught:
            listing_of(open_source(str(folder)))
        told.append(str(caught.value))
    for _ in range(400):
        flipped = bytearray(whole)
        page = rng.randrange(len(whole) // 4096)
        flipped[page * 4096 + rng.randrange(160 if rng.random() < 0.7 else 4096)] ^= 1 << rng.randrange(8)
        (folder / "data.mdb").write_bytes(flipped)
        try:
            source = open_source(str(folder))
            for member in listing_of(source).members:
                assert member.refused or source.read(member)
        except SourceError as error:
            told.append(str(error))
    assert len(told) > 50 and "\n" not in "".join(told)


def test_pages_in_a_circle_end(tmp_path: Path) -> None:
    """A branch whose children are itself: each page is gone through once, so there are more than the file has."""
    folder = write(tmp_path / "a")
    content = bytearray((folder / "data.mdb").read_bytes())
    root = int.from_bytes(content[4096 + 128 : 4096 + 136], "little")
    start = root * 4096
    assert content[start + 10] & 1, "the root is a branch"
    for place in range((int.from_bytes(content[start + 12 : start + 14], "little") - 16) // 2):
        node = start + int.from_bytes(content[start + 16 + 2 * place : start + 18 + 2 * place], "little")
        content[node : node + 6] = root.to_bytes(6, "little")
    (folder / "data.mdb").write_bytes(content)
    with pytest.raises(SourceError, match="damaged"):
        listing_of(open_source(str(folder)))


def test_values_that_are_no_images_are_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    content = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(content.replace(b"\x89PNG", b"\x08PNG").replace(b"BM", b"xM"))
    with pytest.raises(SourceError, match="not image files"):
        listing_of(open_source(str(folder)))
