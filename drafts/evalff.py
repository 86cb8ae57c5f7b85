import sys; sys.path.insert(0,".")
import torch, pandas as pd
from facelab import evaluation, show
from facelab.evaluation import *
from facelab.blocks import load_weights
from facelab.faces import FaceWorld
from facelab.papers import facefeat_gan as ff
src=sys.argv[1]; P=100
if src.endswith('.pt'):
    m=ff.Model(ff.Config()); c=torch.load(src,weights_only=False,map_location='cpu'); print({k:type(v) for k,v in c.items()})
    m.load_state_dict(c['model']); m.eval()
else: m=load_weights(ff.Model,ff.Config,src)
world=FaceWorld(0); judge=evaluation.judge(); g=torch.Generator().manual_seed(0)
al=world.sample(3*P,size=64,start=21000,sitting=3,still=False,yaw=(-45,45),pitch=(-12,12),roll=(-8,8))
o=torch.randperm(3*P,generator=g); al=world.rerender(al,light=al.light[o],background=al.background[o])
one,other,third=(al.image[k::3] for k in range(3)); mask=al.face_mask[0::3]
seen=m.features(one); noise=m.invent(m.noise(P,g)); big=m.invent(m.noise(300,g))
real=m.features(world.sample(300,size=64,start=1000,yaw=(-45,45),pitch=(-12,12),roll=(-8,8)).image).varied
print('weights',{p:{k:round(v,3) for k,v in m.weights(p).items()} for p in ('image_generator','feature_generators')})
print('diversity made f1 %.2f f2 %.2f real f1 %.2f f2 %.2f'%(feature_variance(big[0]),feature_variance(big[1]),feature_variance(real[0]),feature_variance(real[1])),'told f1 %.2f f2 %.2f'%(real_or_made(real[0],big[0]),real_or_made(real[1],big[1])))
F=ff.Features
pics={'copy':one,'second':other,'rebuilt':m.paint(seen),'borrowed':m.paint(F(seen.identity,[f[:P] for f in real])),'invented':m.paint(F(seen.identity,noise)),
 "swap id":m.paint(F(seen.identity.roll(1,0),seen.varied)),'front':m.frontalise(one)}
print('rebuilt psnr face %.2f whole %.2f'%(psnr(pics['rebuilt'],one,mask).mean(),psnr(pics['rebuilt'],one).mean()), 'mean face', psnr(one.mean(0,keepdim=True).expand_as(one),one,mask).mean().item())
gal=judge.look(third); giv=judge.look(one); base=None; dbl=(gal.identity@gal.identity.T-2*torch.eye(P)).argmax(1); sharp=gradient_energy(one).mean()
for n,p in pics.items():
    s=judge.look(p); own,near=own_and_nearest_other(s.identity,gal.identity); v=verification_accuracy(*pairs_in_folds(s.identity,gal.identity)).accuracy-.5
    if n=='second': base=v
    print(f"{n:9} own {own.mean():.2f} double {(s.identity*gal.identity[dbl]).sum(1).mean():.2f} near {near.mean():.2f} verif {v:.3f} {(v/base if base else 0):.2f} yawapart {torch.rad2deg((s.pose[:,0]-giv.pose[:,0]).abs()).mean():.1f} |yaw| {torch.rad2deg(s.pose[:,0].abs()).mean():.1f} told {real_or_made(judge.features(other),judge.features(p)):.2f} sharp {gradient_energy(p).mean()/sharp:.2f} to-prev-id {(s.identity*gal.identity.roll(1,0)).sum(1).mean():.2f}")
k=8; multi=m.synthesise(one[:k],4,g)
fig=show.sheet([q for i in range(k) for q in (one[i],*(pics[n][i] for n in list(pics)[2:]),*multi[i])],1+len(pics)-2+4,titles=['given',*list(pics)[2:],*['inv']*4],width=11)
fig.savefig('..png',dpi=90)
